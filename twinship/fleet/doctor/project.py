"""What `examine` needs to know: the texts of files, the variables, and what the hub answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class EnvFile:
    """A file of KEY=VALUE lines. `shared`: other users of the machine can read it."""

    name: str
    text: str = field(repr=False)
    shared: bool = False

    def line(self, variable: str) -> int:
        """The line of the variable's last value, 0 if the file does not have it."""
        found = 0
        for number, text in enumerate(self.text.splitlines(), start=1):
            if text.strip().removeprefix("export ").partition("=")[0].strip() == variable:
                found = number
        return found


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures. `too_large`: encoding → name and bytes of the first picture over the limit."""

    folder: str
    count: int
    too_large: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class HubAnswer:
    """What the hub answered. `rule`: the id of the rule that the refused request breaks; `error`: why."""

    ahead_s: float | None = None  # how far this machine's clock is ahead of the hub's Date header
    rule: str = ""
    error: str = ""


def _nothing_is_missing(_path: str) -> bool:
    return True


@dataclass(frozen=True)
class Project:
    """One deployment with everything around it. Fields that are None are not checked."""

    file: str  # the name of the manifest, for places
    manifest: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # .env and the environment
    env: EnvFile | None = None
    modules: Mapping[str, str] = field(default_factory=dict)  # folder of modules/ → text of its module.json
    exists: Callable[[str], bool] = _nothing_is_missing  # a path on this machine
    model: tuple[str, bytes] | None = field(default=None, repr=False)  # file name and bytes
    pictures: Pictures | None = None
    hub: HubAnswer | None = None
