"""Who speaks: a device or one of its modules. Knows the form of a name; no keys, not whether it exists."""

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
        """Refuse (ValueError) an id that no topic or address could carry."""
        for part in (self.device,) if self.module is None else (self.device, self.module):
            if not _is_id(part):
                form = f"1 to {MAX_ID_CHARACTERS} printable characters without '/'"
                raise ValueError(f"{part!r} is no device or module id: {form}")

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read "d" or "d/m"; raises ValueError for anything else."""
        device, slash, module = text.partition("/")
        return cls(device, module if slash else None)

    @property
    def parent(self) -> Identity:
        """The device that a module stands on; a device is its own."""
        return Identity(self.device)

    def resource(self, host: str) -> str:
        """What a token for this identity is made out for: `host/devices/d[/modules/m]` (ref 1.5)."""
        device = f"{host}/devices/{self.device}"
        return device if self.module is None else f"{device}/modules/{self.module}"

    def __str__(self) -> str:
        return self.device if self.module is None else f"{self.device}/{self.module}"

    def __lt__(self, other: Identity) -> bool:
        return (self.device, self.module or "") < (other.device, other.module or "")


@lru_cache(maxsize=4096)
def identity_of(device: str, module: str | None) -> Identity:
    """The one of these names; raises ValueError. Made once: each message names its sender and receiver."""
    return Identity(device, module)


def _is_id(text: str) -> bool:
    # ref statement 13: spaces and `$ . - _ :` are all in use, so only what would break a path is refused.
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable() and "/" not in text
