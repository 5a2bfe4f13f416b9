#!/usr/bin/env bash
# The tests of the images, with a Docker engine of their own where none answers.
#
# An engine that answers is used as it is. Otherwise, where this is root on Debian or Ubuntu, Docker is installed by
# apt, and an engine runs for as long as this script does, with its socket in a private folder. Elsewhere the script
# says so, and ends with 0: nothing was checked. CI sets CONTAINERS_REQUIRED=1, which makes that an error.
#
# BASE names the base image of all Dockerfiles. If it is not set and cannot be pulled, a base is made: Debian's
# minimal system and Python by debootstrap, with the packages of the lock files in it, which pip checks by their
# hashes as always. Everything that takes minutes stays in TWINSHIP_CACHE (default ~/.cache/twinship).
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=${TWINSHIP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/twinship}
tag=python:3.11-slim-bookworm
python=.venv/bin/python
install --directory --mode=0700 "$cache"

say() { echo "containers: $*"; }

leave() {
    say "nothing was checked: $*"
    [ -z "${CONTAINERS_REQUIRED:-}" ] || exit 1
    exit 0
}

answers() { timeout 20 docker version >/dev/null 2>&1; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq "$@" >"$cache/apt.log" 2>&1 || { tail -5 "$cache/apt.log" >&2; return 1; }; }

install_engine() {
    [ "$(id -u)" = 0 ] || leave "no Docker engine answers, and only root may start one"
    command -v dockerd >/dev/null && return
    command -v apt-get >/dev/null || leave "no Docker engine answers, and there is no apt-get to install one"
    say "installing Docker"
    # policy-rc.d: the package must not start a service; this script starts its own engine.
    apt update && apt install --yes --no-install-recommends docker.io iptables iproute2
}

start_engine() {
    folder=$(mktemp -d)
    export DOCKER_HOST=unix://$folder/docker.sock
    setsid dockerd --host "$DOCKER_HOST" --data-root "$cache/engine" --exec-root "$folder/run" \
        --pidfile "$folder/pid" --storage-driver overlay2 >"$cache/dockerd.log" 2>&1 &
    engine=$!
    trap stop_engine EXIT
    for _ in $(seq 120); do
        answers && return
        kill -0 "$engine" 2>/dev/null || break
        sleep 0.5
    done
    tail -5 "$cache/dockerd.log" >&2
    leave "dockerd does not start here"
}

stop_engine() {
    docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null || true
    kill "$engine" && wait "$engine" || true
    umount "$folder"/run/netns/* 2>/dev/null || true
    rm -rf "$folder" || true
}

# A file of a package of Debian 13, unpacked beside the system: Debian 12 has Compose 1 only, and nothing is installed.
from_debian_13() { # package, its file, the target folder
    local lists=$cache/apt
    mkdir -p "$lists/lists/partial" "$lists/archives/partial" "$3"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" \
        >"$lists/sources.list"
    local options=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$lists/lists" -o "Dir::Cache=$lists" -o APT::Sandbox::User=root)
    apt "${options[@]}" update
    (cd "$lists" && apt "${options[@]}" download "$1" && dpkg -x "$1"_*.deb unpacked)
    cp "$lists/unpacked/$2" "$3/"
}

find_compose() {
    docker compose version >/dev/null 2>&1 && return
    export DOCKER_CONFIG=$cache/config
    docker compose version >/dev/null 2>&1 && return
    command -v apt-get >/dev/null || leave "docker compose is missing: install Compose v2"
    say "fetching Compose v2"
    from_debian_13 docker-compose usr/libexec/docker/cli-plugins/docker-compose "$DOCKER_CONFIG/cli-plugins"
    docker compose version >/dev/null
}

# Only the tests of iotedgedev and iotedgehubdev need a registry; without it they are skipped by name.
find_registry() {
    command -v docker-registry >/dev/null && return
    export REGISTRY_PROGRAM=$cache/registry/docker-registry
    [ -x "$REGISTRY_PROGRAM" ] || ! command -v apt-get >/dev/null && return
    say "fetching docker-registry"
    from_debian_13 docker-registry usr/bin/docker-registry "$cache/registry" || unset REGISTRY_PROGRAM
}

# Debian with Python and pip, as a tarball that stays.
debian() {
    [ -e "$cache/bookworm.tar" ] && return
    [ "$(id -u)" = 0 ] || leave "$tag cannot be pulled, and only root can make a base"
    command -v debootstrap >/dev/null || { apt update && apt install --yes --no-install-recommends debootstrap || return; }
    say "making a base with debootstrap"
    local tree
    tree=$(mktemp -d)
    debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$tree" >"$cache/debootstrap.log" ||
        return
    rm -rf "$tree"/usr/lib/python3*/EXTERNALLY-MANAGED "$tree"/var/cache/apt "$tree"/usr/share/doc
    ln -s python3 "$tree/usr/bin/python"
    tar -C "$tree" --exclude=./proc --exclude=./sys -cf "$cache/bookworm.tar.new" . || return
    mv "$cache/bookworm.tar.new" "$cache/bookworm.tar"
    rm -rf "$tree"
}

# The base with the locked packages in it: a build on a machine without an index.
make_base() {
    debian || leave "debootstrap failed"
    local wheels=$cache/base/srv/wheels digest
    local locks=(modules/*.lock modules/*/*.lock twinship/requirements.lock training/requirements.lock)
    digest=$(cat "${locks[@]}" | sha256sum | cut -c1-12)
    export BASE=twinship-base:$digest
    docker image inspect "$BASE" >/dev/null 2>&1 && return
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || leave "a base needs wheels for Python 3.11"
    say "downloading the locked packages"
    mkdir -p "$wheels" "$cache/base/etc"
    "$python" -m pip download --quiet --no-deps --require-hashes --dest "$wheels" "${locks[@]/#/--requirement=}" \
        2>"$cache/pip.log" || { tail -3 "$cache/pip.log" >&2; leave "the locked packages cannot be downloaded"; }
    printf '[global]\nno-index = true\nfind-links = /srv/wheels\n' >"$cache/base/etc/pip.conf"
    cp "$cache/bookworm.tar" "$cache/base.tar"
    tar -C "$cache/base" -rf "$cache/base.tar" --owner=0 --group=0 ./srv/wheels ./etc/pip.conf
    docker import --change 'CMD ["python3"]' "$cache/base.tar" "$BASE" >/dev/null
    rm -rf "$cache/base.tar" "$cache/base"
}

answers || { install_engine || leave "Docker cannot be installed here"; start_engine; }
find_compose || leave "Compose v2 cannot be fetched here"
find_registry
if [ -z "${BASE:-}" ] && ! docker image inspect "$tag" >/dev/null 2>&1 && ! timeout 120 docker pull --quiet "$tag" 2>/dev/null; then
    make_base
fi
export BASE=${BASE:-$tag}
say "engine $(docker version --format '{{.Server.Version}}'), $(docker compose version), base $BASE"
"$python" -m pytest -m containers "$@" tests/containers
