"""Pictures of a folder, in the order of their file names, in a loop."""

import io
import logging
from dataclasses import replace
from pathlib import Path

from PIL import Image

from camera_sim.sources.picture import Picture, State
from camera_sim.sources.settings import SceneDials, VideoSettings
from camera_sim.sources.truth import boxes_of, labels_of
from edgekit import clock

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
_CONTENT_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg"}
_GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "F"})
_MAX_PIXELS = 50_000_000
_CACHE_BYTES = 64 * 1024 * 1024  # of decoded and encoded pictures; the others are read in every round


class Folder:
    """Pictures below a folder, sorted by name, in a loop. Unreadable files are skipped and logged once."""

    losses = 0
    retry_ns = 1_000_000_000  # each call lists the folder again

    def __init__(self, path: Path) -> None:
        self.state = State("connecting", since=clock.wall_ns())
        self._path = path
        self._names: list[str] = []
        self._truths: dict[str, str] = {}
        self._annotated: set[str] = set()  # their annotation was looked for, once
        self._position = 0
        self._bad: set[str] = set()
        self._cache: dict[str, Picture] = {}
        self._cached_bytes = 0

    def __str__(self) -> str:
        return f"folder {self._path}: {len(self._names)} pictures"

    @property
    def unreadable(self) -> int:
        """Pictures that could not be read, each counted once."""
        return len(self._bad)

    def next(self) -> Picture | None:
        """The next readable picture; None if there is none, and the next call lists the folder again."""
        if not self._names:
            self._list()
        for _each in self._names:
            name = self._names[self._position]
            self._position = (self._position + 1) % len(self._names)
            if name not in self._bad and (picture := self._picture(name)) is not None:
                if self.state.name != "streaming":
                    self.state = State("streaming", since=clock.wall_ns())
                return picture
        self._names = []
        if self.state.name != "lost":
            self.state = State("lost", f"no readable picture in {self._path}", clock.wall_ns())
        return None

    def configure(self, scene: SceneDials, video: VideoSettings) -> None:
        """Nothing: a folder has no settings."""

    def close(self) -> None:
        """Nothing: it has no threads."""

    def _list(self) -> None:
        names = (
            path.relative_to(self._path).as_posix()
            for path in self._path.rglob("*")
            if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        self._names = sorted(names)
        self._position = 0
        self._truths = labels_of(self._path, self._names)
        self._annotated = set()

    def _picture(self, name: str) -> Picture | None:
        if (cached := self._cache.get(name)) is not None:
            return cached
        try:
            picture = read_picture(self._path / name, name)
        except Exception as error:  # Pillow's decoders raise many kinds of exceptions
            logger.warning("picture %s: skipped: %s", self._path / name, error)
            self._bad.add(name)
            return None
        if name not in self._annotated:
            self._annotated.add(name)
            if (boxes := boxes_of(self._path / name, picture.image.size)) is not None:
                self._truths[name] = boxes
        picture = replace(picture, truth=self._truths.get(name))
        size = picture.image.width * picture.image.height * picture.channels + len(picture.original)
        if self._reserve(size):
            self._cache[name] = picture = replace(picture, reserve=self._reserve)
        return picture

    def _reserve(self, size: int) -> bool:
        """Take so many bytes of the cache, if they are free."""
        if self._cached_bytes + size > _CACHE_BYTES:
            return False
        self._cached_bytes += size
        return True


def read_picture(path: Path, name: str) -> Picture:
    """Read and decode a picture. Raises ValueError if it has too many pixels, and whatever Pillow raises."""
    original = path.read_bytes()
    with Image.open(io.BytesIO(original)) as opened:
        if opened.width * opened.height > _MAX_PIXELS:
            raise ValueError(f"{opened.width}x{opened.height} is over {_MAX_PIXELS} pixels")
        content_type = _CONTENT_TYPES.get(opened.format or "", "")
        untouched = opened.mode in ("L", "RGB")
        opened.load()
        image = opened.copy() if untouched else opened.convert("L" if opened.mode in _GREY else "RGB")
    return Picture(name, image, None, original, content_type, untouched)
