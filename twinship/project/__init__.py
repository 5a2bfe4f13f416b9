"""The files of a project: the deployment manifest, the module.json files that it reads, and `.env.example`.

A wheel carries them beside this file. In a checkout they stand at the top of the repository.

>>> manifest().name
'deployment.template.json'
"""

from __future__ import annotations

import shutil
from pathlib import Path

MANIFEST = "deployment.template.json"
DASHBOARD_MANIFEST = "deployment.dashboard.template.json"  # the same with the module dashboard
_PATTERNS = (MANIFEST, DASHBOARD_MANIFEST, ".env.example", "modules/*/module.json")


class ProjectError(Exception):
    """The project cannot be written into the folder; the text names the file and the cure."""


def _source() -> Path:
    packaged = Path(__file__).parent
    return packaged if (packaged / MANIFEST).is_file() else packaged.parents[1]


def manifest() -> Path:
    """The manifest that comes with Twinship."""
    return _source() / MANIFEST


def chosen_manifest(named: Path | None) -> Path:
    """The manifest a command uses: the one that is named, else the current folder's, else Twinship's own.

    A bare name of a manifest that comes with Twinship works in every folder.
    """
    wanted = named or Path(MANIFEST)
    comes_with_twinship = str(wanted) in (MANIFEST, DASHBOARD_MANIFEST)
    return _source() / wanted if comes_with_twinship and not wanted.is_file() else wanted


def write(folder: Path) -> list[Path]:
    """Write the files of a project into `folder`, which is made if needed; return their paths.

    Raises ProjectError, before anything is written, if one of the files exists.
    """
    source = _source()
    files = [path.relative_to(source) for pattern in _PATTERNS for path in sorted(source.glob(pattern))]
    for file in files:
        if (folder / file).exists():
            raise ProjectError(f"{folder / file} exists: init overwrites no file; name another folder")
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, folder / file)
    return [folder / file for file in files]
