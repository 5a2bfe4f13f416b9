"""Write the software bill of materials of an image: `python -m tests.tools.sbom IMAGE FILE`.

CycloneDX 1.5 JSON (https://cyclonedx.org/docs/1.5/json/): the image's Python distributions, with the versions
and licences of their metadata. Debian's packages come from the base, which has a list of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LIST = """
import importlib.metadata as m, json
found = sorted(m.distributions(), key=lambda each: each.name.lower())
licence = "License-Expression"
print(json.dumps([{"name": d.name, "version": d.version, "license": d.metadata.get(licence)} for d in found]))
"""


def bill(image: str, distributions: Iterable[Mapping[str, str | None]]) -> dict[str, Any]:
    """The document for an image with these distributions: name, version, and license as SPDX or None."""
    name, _, version = image.rpartition(":")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": [_component(each) for each in distributions],
    }


def _component(distribution: Mapping[str, str | None]) -> dict[str, Any]:
    name, version, expression = (distribution[key] for key in ("name", "version", "license"))
    licences = {"licenses": [{"expression": expression}]} if expression else {}
    purl = f"pkg:pypi/{str(name).lower().replace('_', '-')}@{version}"
    return {"type": "library", "name": name, "version": version, "purl": purl, **licences}


def main(image: str, file: str) -> None:
    """List the distributions of the image in a container without a network, and write the document."""
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python", image, "-c", LIST]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps(bill(image, json.loads(listed)), indent=2) + "\n")
    print(f"{file}: {len(json.loads(listed))} distributions")


if __name__ == "__main__":
    main(*sys.argv[1:3])
