"""A picture, the state of its source, and what every source can do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from PIL import Image

from camera_sim.sources.settings import SceneDials, VideoSettings

StateName = Literal["connecting", "streaming", "lost", "ended"]


@dataclass(frozen=True)
class Encoded:
    """An encoded picture."""

    body: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    channels: int


def _no_room(size: int) -> bool:
    return False


@dataclass(frozen=True)
class Picture:
    """A decoded picture, grey (L) or colour (RGB), and the bytes of its file."""

    name: str
    image: Image.Image = field(repr=False)
    truth: str | None = None
    original: bytes = field(default=b"", repr=False)  # the bytes of the file; empty without a file
    content_type: str = ""  # of `original`; empty if frames do not support it
    untouched: bool = False  # `image` has the very pixels of `original`
    captured: tuple[int, int] | None = None  # wall and CLOCK_MONOTONIC ns; None: when the camera takes it
    lossy: bool = False  # of a compressed video: a lossless encoding would gain nothing
    damaged: bool = False  # its frame shall not be decodable
    dropped: bool = False  # it takes its turn, but becomes no frame
    #: whether its source, which keeps the picture, has room for so many bytes of an encoding
    reserve: Callable[[int], bool] = field(default=_no_room, repr=False, compare=False)
    encodings: dict[str, Encoded] = field(default_factory=dict, repr=False, compare=False)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return len(self.image.getbands())


@dataclass(frozen=True)
class State:
    """`ended`: a video that is played once has no more pictures."""

    name: StateName
    reason: str = ""  # of `lost` and `ended`; holds no password
    since: int = 0  # ns since the epoch


class Source(Protocol):
    """A source of pictures. The twin reports its `str()`, which holds no password."""

    @property
    def unreadable(self) -> int:
        """Pictures that could not be read, each counted once."""

    @property
    def state(self) -> State:
        """Whether pictures come, and since when."""

    @property
    def losses(self) -> int:
        """How often it was lost after it had streamed, or could not be opened."""

    @property
    def retry_ns(self) -> int:
        """The pause before `next` is called again after it returned None."""

    def next(self) -> Picture | None:
        """The next picture; None if there is none now. Returns within 0.2 s."""

    def configure(self, scene: SceneDials, video: VideoSettings) -> None:
        """Put the twin's settings in force; called often with the same ones."""

    def close(self) -> None:
        """End its threads and processes."""
