#!/usr/bin/env bash
# The README's commands on a fresh machine:
#
#     fresh_machine.sh [bookworm|trixie] [--first | COMMAND ...]
#
# debootstrap makes Debian 12 (Python 3.11) or 13 (Python 3.13) with git, make, python3 and python3-venv. There an
# ordinary user, who cannot become root, clones this repository at HEAD and runs the commands under "## Two commands"
# of its README, word for word; with --first only the first of them; with COMMAND that instead.
#
# Processes and mounts are in namespaces of their own, so the kernel ends them with the script. The new machine gets
# this machine's resolver, hosts, CA bundles, and the variables of pip and of proxies. The installed system stays as a
# tarball in build/fresh_machine. Only root may do this. The exit code is that of the command that failed, else 0.
set -euo pipefail

repository=$(realpath "$(dirname "$0")/../..")
packages=git,make,python3,python3-venv,ca-certificates
heading='## Two commands'
user=newcomer
namespaces=(unshare --mount --mount-proc --pid --fork --kill-child)

say() { echo "fresh machine: $*"; }

stop() {
    say "$*" >&2
    exit 1
}

of_repository() { git -c safe.directory="$repository" -C "$repository" "$@"; }

# One line for each command: the first sh block under the heading.
commands_of_readme() {
    of_repository show HEAD:README.md | awk -v heading="$heading" '
        block && /^```$/ { exit }
        block { print }
        $0 == heading { found = 1 }
        found && /^```sh$/ { block = 1 }'
}

check_rights() {
    [ "$(id -u)" = 0 ] || stop "only root can make one; cure: sudo $0"
    command -v debootstrap >/dev/null || stop "debootstrap is missing; cure: apt install debootstrap"
    "${namespaces[@]}" true 2>/dev/null || stop "no mounts are allowed here; cure: run it outside a container"
}

# Wait in the background: a trap then acts at once. Job control keeps SIGINT as it is for the tests of Ctrl-C.
isolated() {
    set -m
    "${namespaces[@]}" "$@" </dev/null &
    machine=$!
    set +m
    wait "$machine"
}

clean_up() {
    [ -z "${machine:-}" ] || kill -KILL "$machine" 2>/dev/null && wait "$machine" 2>/dev/null || true
    rm -rf --one-file-system "$folder" 2>/dev/null || { sleep 1 && rm -rf --one-file-system "$folder"; }
    rm -f "${tarball:-}.new.$$"
}

# The installed system, from its tarball if there is one.
install_system() {
    tarball=$repository/build/fresh_machine/$suite-$(sha256sum <<<"$suite $packages" | cut -c1-12).tar
    if [ -e "$tarball" ]; then
        tar -C "$tree" -xf "$tarball"
        return
    fi
    isolated debootstrap --variant=minbase --include="$packages" "$suite" "$tree" >"$folder/log" 2>&1 ||
        stop "debootstrap $suite failed: $(tail -1 "$folder/log")"
    mkdir -p "$(dirname "$tarball")"
    tar -C "$tree" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' --exclude='./dev/*' \
        -cf "$tarball.new.$$" .
    mv "$tarball.new.$$" "$tarball"
}

# The resolver, the hosts, and the CA bundles that variables name.
copy_network() {
    local file
    for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt \
        "${PIP_CERT:-}" "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}"; do
        [ -f "$file" ] || continue
        mkdir -p "$tree$(dirname "$file")"
        cp --dereference --remove-destination "$file" "$tree$file"
        chmod a+r "$tree$file"
    done
}

# Run by process 1 of the namespaces. Variables stay variables: the command line of a process is public.
boot() {
    local name
    mount -t proc proc "$tree/proc"
    mount -t sysfs -o ro sysfs "$tree/sys"
    mount --bind /dev "$tree/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
    for name in $(compgen -e); do
        case $name in
        PIP_* | SSL_CERT_FILE | SSL_CERT_DIR | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | *_proxy | *_PROXY | tree | PATH) ;;
        *) unset "$name" ;;
        esac
    done
    export HOME=/home/$1 USER=$1 && export -nf boot
    exec chroot --userspec="$1:$1" --groups= "$tree" /bin/bash /srv/session "${@:2}"
}

# The session of the user: clone, then each command as a user types it.
write_session() {
    cat >"$tree/srv/session" <<'SESSION'
set -euo pipefail
say() { echo "fresh machine: $*"; }
unset tree
export PATH=/usr/local/bin:/usr/bin:/bin
cd
git clone --quiet /srv/repository twinship 2>/dev/null
cd twinship
say "$(python3 --version), user $(id -un), commit $(git rev-parse --short HEAD)"
for line in "$@"; do
    say "\$ $line"
    SECONDS=0 code=0
    bash -c "$line" || code=$?
    say "exit code $code after $SECONDS s: $line"
    [ "$code" = 0 ] || exit "$code"
done
SESSION
}

suite=bookworm
case ${1:-} in
bookworm | trixie) suite=$1 && shift ;;
esac
mapfile -t commands < <(commands_of_readme)
[ "${#commands[@]}" != 0 ] || stop "README.md has no commands under: $heading"
case ${1:-} in
'') ;;
--first) commands=("${commands[0]}") ;;
-*) echo "usage: fresh_machine.sh [bookworm|trixie] [--first | COMMAND ...]" >&2 && exit 2 ;;
*) commands=("$*") ;;
esac
check_rights

folder=$(mktemp -d)
export tree=$folder/tree
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -m 0755 "$tree"
chmod 0711 "$folder"
install_system
copy_network
chroot "$tree" useradd --create-home --shell /bin/bash "$user"
# HEAD as one file: the user needs no right to read this checkout.
of_repository bundle create --quiet "$tree/srv/repository" HEAD
write_session
say "Debian $(cat "$tree/etc/debian_version") is ready after $SECONDS s"
export -f boot
code=0
isolated bash -euc 'boot "$@"' boot "$user" "${commands[@]}" || code=$?
say "$suite: exit code $code after $SECONDS s"
exit "$code"
