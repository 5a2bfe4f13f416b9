"""Pin the base of every Dockerfile to the digest that its registry has now: `python -m tests.tools.pin_base`.

`ARG BASE=python:3.11-slim-bookworm` becomes `…@sha256:…`; an older digest is renewed. It is the digest of the
image's index (OCI Distribution Specification 1.1, "pulling manifests").
"""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKER_HUB = "https://registry-1.docker.io"
TOKENS = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:{}:pull"
ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
TIMEOUT_S = 30.0
_BASE = re.compile(r"^(ARG BASE=)([a-z0-9._/-]+):([\w.-]+)(?:@sha256:[0-9a-f]{64})?$", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class NoDigest(Exception):
    """The registry names no digest. The text is one line with the image."""


def digest(repository: str, tag: str, registry: str = DOCKER_HUB) -> str:
    """The digest of `repository:tag` in this registry. Raises NoDigest."""
    path = repository if "/" in repository else f"library/{repository}"
    headers = {"Accept": ACCEPT}
    try:
        if registry == DOCKER_HUB:
            with urllib.request.urlopen(TOKENS.format(path), timeout=TIMEOUT_S) as answer:
                headers["Authorization"] = f"Bearer {json.load(answer)['token']}"
        url = f"{registry}/v2/{path}/manifests/{tag}"
        request = urllib.request.Request(url, headers=headers, method="HEAD")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            found = str(answer.headers.get("Docker-Content-Digest", ""))
    except (OSError, ValueError, KeyError) as error:
        raise NoDigest(f"{repository}:{tag}: the registry does not answer: {error}") from error
    if not _DIGEST.fullmatch(found):
        raise NoDigest(f"{repository}:{tag}: the registry names no digest")
    return found


def pin(dockerfiles: Iterable[Path], resolve: Callable[[str, str], str]) -> list[str]:
    """Write the digests; return the pinned bases. Changes no file if one base has none (NoDigest)."""
    texts = {path: path.read_text() for path in dockerfiles}
    bases = {(match[2], match[3]) for text in texts.values() for match in _BASE.finditer(text)}
    found = {base: resolve(*base) for base in sorted(bases)}
    for path, text in texts.items():
        path.write_text(_BASE.sub(lambda m: f"{m[1]}{m[2]}:{m[3]}@{found[m[2], m[3]]}", text))
    return [f"{repository}:{tag}@{value}" for (repository, tag), value in found.items()]


def main() -> int:
    """Pin the Dockerfiles of this repository."""
    dockerfiles = [*ROOT.glob("modules/*/Dockerfile.*"), ROOT / "twinship" / "Dockerfile"]
    try:
        print("\n".join(pin(dockerfiles, digest)))
    except NoDigest as error:
        print(f"pin-base: {error}; no file is changed", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
