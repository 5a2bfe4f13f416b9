"""Opens a source: the scheme of its address names the class that reads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from camera_sim.sources.address import VIDEO, Address, SourceError
from camera_sim.sources.folder import Folder
from camera_sim.sources.picture import Source
from camera_sim.sources.scene import Scene
from camera_sim.sources.settings import SceneDials, VideoSettings
from camera_sim.sources.video import Video, can_decode


@dataclass(frozen=True)
class Opening:
    """The arguments with which `open_source` opens a source."""

    address: Address
    scene: SceneDials
    video: VideoSettings
    ca_file: str | None


def _video(opening: Opening) -> Source:
    return Video(opening.address, opening.video, opening.ca_file)


_OPEN: Final[Mapping[str, Callable[[Opening], Source]]] = MappingProxyType(
    {
        "folder": lambda opening: Folder(Path(opening.address.target)),
        "scene": lambda opening: Scene(int(opening.address.target or 7), opening.scene),
        **dict.fromkeys(VIDEO, _video),
    }
)


def open_source(opening: Opening) -> Source:
    """Open the source. If it cannot be read, its `state` says so later; nothing is raised here."""
    return _OPEN[opening.address.scheme](opening)


def check_installed(address: Address) -> None:
    """Raise SourceError if this installation cannot decode video and the address names one."""
    if address.scheme in VIDEO and not can_decode():
        raise SourceError(f"{address.scheme}: needs PyAV; cure: install camera_sim[video]")
