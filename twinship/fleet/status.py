"""What a device runs, wants, refused and why, read from its twins. `status` asks through service.py; the
rest turns documents into facts; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

from twinship.fleet.connection import Connection
from twinship.fleet.service import HubUnavailable, ModuleTwin, NotFound, ServiceHub

COLUMNS = ("module", "connected", "runtime", "model", "wants", "state", "error")
_AGENT, _HUB = "$edgeAgent", "$edgeHub"


@dataclass(frozen=True)
class Model:
    """Which model, as a twin names it."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    @classmethod
    def read(cls, value: object) -> Self | None:
        """None unless `value` is an object with a name; a twin may hold anything."""
        if not isinstance(value, Mapping) or not value.get("name"):
            return None
        return cls(*(str(value.get(key, "")) for key in ("name", "version", "sha256")))


@dataclass(frozen=True)
class Refusal:
    """Why not, in the device's words."""

    code: str
    message: str


@dataclass(frozen=True)
class ModelStatus:
    """The `model` and `modelStatus` sections of one module twin, both sides."""

    wanted: Model | None
    desired_version: int
    answered_version: int | None  # the desired version that the device's last answer is about
    state: str  # one of inference.model_section.ModelState, or "" while the device has reported none
    active: Model | None
    candidate: Model | None
    previous: Model | None
    error: Refusal | None
    history: tuple[Mapping[str, Any], ...]  # the last transitions, oldest first
    timings: Mapping[str, Any]
    engine: Mapping[str, Any]  # what computes: runtime, delegate, whyNotDelegate

    @property
    def answered(self) -> bool:
        """True when the device has seen what is wanted now."""
        return self.answered_version is not None and self.answered_version >= self.desired_version

    @classmethod
    def read(cls, twin: ModuleTwin) -> Self:
        """From a twin whose reported side may be missing, old or malformed."""
        answer, status = _table(twin.reported, "model"), _table(twin.reported, "modelStatus")
        return cls(
            wanted=Model.read(twin.desired.get("model")),
            desired_version=_number(twin.desired.get("$version")) or 0,
            answered_version=_number(answer.get("av")),
            state=str(status.get("state") or ""),
            active=Model.read(status.get("active")),
            candidate=Model.read(status.get("candidate")),
            previous=Model.read(status.get("previous")),
            error=_refusal(status.get("error")),
            history=tuple(_entries(status.get("history"))),
            timings=_table(status, "timings"),
            engine=_table(status, "engine"),
        )


@dataclass(frozen=True)
class Section:
    """A writable section's answer in the IoT Plug and Play shape: 200, or 400 and what is wrong with it."""

    name: str
    code: int
    description: str


@dataclass(frozen=True)
class ModuleStatus:
    """One module: how the hub sees it, how edgeAgent sees it, how it sees itself."""

    name: str
    connection_state: str  # Connected or Disconnected
    runtime: str  # edgeAgent's word: running, stopped, failed, backoff …; "" when it reports none
    restarts: int
    model: ModelStatus | None  # None for a module that knows no models
    sections: tuple[Section, ...]

    def row(self) -> tuple[str, ...]:
        """The cells of COLUMNS."""
        runtime = f"{self.runtime} ({self.restarts} restarts)" if self.restarts else self.runtime
        bad = [f"{section.name}: {section.description}" for section in self.sections if section.code >= 400]
        model = self.model
        if model is None:
            return (self.name, self.connection_state, runtime, "", "", "", "; ".join(bad))
        wants = str(model.wanted or "")
        if model.wanted and not model.answered:
            wants += " (not seen yet)"
        error = [f"{model.error.code}: {model.error.message}"] if model.error else []
        why_not = model.engine.get("whyNotDelegate")
        state = f"{model.state} (on the CPU: {why_not})" if why_not else model.state
        cells = (str(model.active or ""), wants, state, "; ".join([*error, *bad]))
        return (self.name, self.connection_state, runtime, *cells)


@dataclass(frozen=True)
class Configuration:
    """Whether edgeAgent or edgeHub took the deployment (`lastDesiredStatus`)."""

    module: str
    code: int | None  # None: not reported yet
    description: str


@dataclass(frozen=True)
class Status:
    """One device at one moment."""

    hub: str
    device: str
    connection_state: str  # of its edgeHub, through which all modules reach the hub
    configurations: tuple[Configuration, ...]
    modules: tuple[ModuleStatus, ...]

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """One row of COLUMNS for each module."""
        return tuple(module.row() for module in self.modules)

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def changes(
    look: Callable[[], Status],
    *,
    pause: Callable[[], None],
    away: Callable[[HubUnavailable], None],
) -> Iterator[Status]:
    """The present status, then each that differs, for ever; `pause` comes between two looks.

    A hub that cannot be reached is told `away` and asked again; only the first look may fail for that.
    """
    last = look()
    yield last
    while True:
        pause()
        try:
            found = look()
        except HubUnavailable as error:
            away(error)
            continue
        if found != last:
            last = found
            yield found


class Twins(Protocol):
    """What is asked of a hub here; ServiceHub is one, the tests' is another."""

    def modules(self, device: str) -> tuple[str, ...]: ...

    def module_twin(self, device: str, module: str) -> ModuleTwin: ...


def status(connection: Connection, device: str) -> Status:
    """One device, all its modules. Raises NotConfigured, NotFound, HubUnavailable, HubRefused."""
    with ServiceHub(connection) as hub:
        return read_status(hub, connection.host, device)


def read_status(hub: Twins, name: str, device: str) -> Status:
    """The same from any hub. A module that disappears between the two questions is left out."""
    twins = {}
    for module in hub.modules(device):
        try:
            twins[module] = hub.module_twin(device, module)
        except NotFound:
            continue
    runtimes = _table(twins[_AGENT].reported, "modules") if _AGENT in twins else {}
    system = [twins[module] for module in (_AGENT, _HUB) if module in twins]
    return Status(
        name,
        device,
        twins[_HUB].connection_state if _HUB in twins else "",
        tuple(_configuration(twin) for twin in system),
        tuple(_module(twin, _table(runtimes, twin.module)) for twin in twins.values() if twin not in system),
    )


def _module(twin: ModuleTwin, runtime: Mapping[str, Any]) -> ModuleStatus:
    knows_models = "model" in twin.desired or "modelStatus" in twin.reported
    return ModuleStatus(
        twin.module,
        twin.connection_state,
        str(runtime.get("runtimeStatus") or ""),
        _number(runtime.get("restartCount")) or 0,
        ModelStatus.read(twin) if knows_models else None,
        tuple(_sections(twin)),
    )


def _sections(twin: ModuleTwin) -> list[Section]:
    """Every reported section that carries an answer, `model` aside: modelStatus says more."""
    answers = {name: _table(twin.reported, name) for name in twin.reported if name != "model"}
    return [
        Section(name, code, str(answer.get("ad") or ""))
        for name, answer in answers.items()
        if (code := _number(answer.get("ac"))) is not None
    ]


def _configuration(twin: ModuleTwin) -> Configuration:
    last = _table(twin.reported, "lastDesiredStatus")
    return Configuration(twin.module, _number(last.get("code")), str(last.get("description") or ""))


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _refusal(value: object) -> Refusal | None:
    if not isinstance(value, Mapping) or not value:
        return None
    return Refusal(str(value.get("code") or ""), str(value.get("message") or ""))


def _entries(history: object) -> list[Mapping[str, Any]]:
    """A list, or an object with the entries under ordered keys: both are valid in a twin."""
    if isinstance(history, Mapping):
        history = [history[key] for key in sorted(history)]
    if not isinstance(history, list):
        return []
    return [entry for entry in history if isinstance(entry, Mapping)]
