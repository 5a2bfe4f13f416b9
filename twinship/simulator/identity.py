"""The identity of a client: a device or one of its modules.

>>> camera = Identity.parse("edge-1/camera")
>>> camera.device, camera.module, str(camera.parent)
('edge-1', 'camera', 'edge-1')
>>> camera.resource("hub.example")
'hub.example/devices/edge-1/modules/camera'
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, total_ordering

MAX_ID_CHARACTERS = 128


@total_ordering
@dataclass(frozen=True)
class Identity:
    """A device ("d") or a module on it ("d/m"). A device sorts before its modules."""

    device: str
    module: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an id that a topic or an address cannot contain."""
        for part in (self.device,) if self.module is None else (self.device, self.module):
            if not _is_id(part):
                form = f"1 to {MAX_ID_CHARACTERS} printable characters without '/'"
                raise ValueError(f"{part!r} is not a device or module id: {form}")

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read "d" or "d/m"; raises ValueError for other text."""
        device, slash, module = text.partition("/")
        return cls(device, module if slash else None)

    @property
    def parent(self) -> Identity:
        """The device of a module; a device is its own parent."""
        return Identity(self.device)

    def resource(self, host: str) -> str:
        """The resource of this identity's tokens: `host/devices/d[/modules/m]` (ref 1.5)."""
        device = f"{host}/devices/{self.device}"
        return device if self.module is None else f"{device}/modules/{self.module}"

    def __str__(self) -> str:
        return self.device if self.module is None else f"{self.device}/{self.module}"

    def __lt__(self, other: Identity) -> bool:
        return (self.device, self.module or "") < (other.device, other.module or "")


@lru_cache(maxsize=4096)
def identity_of(device: str, module: str | None) -> Identity:
    """A cached Identity, because every message names its sender and receiver. Raises ValueError."""
    return Identity(device, module)


def _is_id(text: str) -> bool:
    # ref statement 13: clients use spaces and `$ . - _ :`, so this refuses only what breaks a path
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable() and "/" not in text
