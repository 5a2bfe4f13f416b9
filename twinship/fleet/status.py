"""The state of a device, read from its twins: the active model, the desired model, errors, module states."""

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
    """A model as a twin names it."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"

    @classmethod
    def read(cls, value: object) -> Self | None:
        """None unless `value` is an object with a name: a twin may contain anything."""
        if not isinstance(value, Mapping) or not value.get("name"):
            return None
        return cls(*(str(value.get(key, "")) for key in ("name", "version", "sha256")))


@dataclass(frozen=True)
class ModelError:
    """Why the device refused or withdrew a model."""

    code: str
    message: str


@dataclass(frozen=True)
class ModelStatus:
    """The desired `model` section and the reported `model` and `modelStatus` of one module twin."""

    wanted: Model | None
    desired_version: int
    answered_version: int | None  # the desired version of the device's last report
    state: str  # one of inference.model_section.ModelState, or "" while the device has reported none
    active: Model | None
    candidate: Model | None
    previous: Model | None
    error: ModelError | None
    history: tuple[Mapping[str, Any], ...]  # the last transitions, oldest first
    timings: Mapping[str, Any]
    engine: Mapping[str, Any]  # runtime, delegate, whyNotDelegate

    @property
    def answered(self) -> bool:
        """True if the device has reported on the present desired section."""
        return self.answered_version is not None and self.answered_version >= self.desired_version

    @classmethod
    def read(cls, twin: ModuleTwin) -> Self:
        """Read a twin; its reported properties may be missing, old or malformed."""
        report, status = _table(twin.reported, "model"), _table(twin.reported, "modelStatus")
        return cls(
            wanted=Model.read(twin.desired.get("model")),
            desired_version=_number(twin.desired.get("$version")) or 0,
            answered_version=_number(report.get("av")),
            state=str(status.get("state") or ""),
            active=Model.read(status.get("active")),
            candidate=Model.read(status.get("candidate")),
            previous=Model.read(status.get("previous")),
            error=_model_error(status.get("error")),
            history=tuple(_entries(status.get("history"))),
            timings=_table(status, "timings"),
            engine=_table(status, "engine"),
        )


@dataclass(frozen=True)
class SectionStatus:
    """The report on a writable section in the IoT Plug and Play shape: 200, or 400 and the reason."""

    name: str
    code: int
    description: str


@dataclass(frozen=True)
class ModuleStatus:
    """One module as the hub, edgeAgent and the module itself report it."""

    name: str
    connection_state: str  # Connected or Disconnected
    runtime: str  # from edgeAgent: running, stopped, failed, backoff …; "" if it reports none
    restarts: int
    model: ModelStatus | None  # None for a module without models
    sections: tuple[SectionStatus, ...]

    def row(self) -> tuple[str, ...]:
        """One cell for each of COLUMNS."""
        runtime = f"{self.runtime} ({self.restarts} restarts)" if self.restarts else self.runtime
        if self.connection_state == "Connected" and self.runtime == "stopped":
            runtime = "started by somebody else"  # as after `twinship simulate --except`
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
    """Whether edgeAgent or edgeHub accepted the deployment (`lastDesiredStatus`)."""

    module: str
    code: int | None  # None: not reported yet
    description: str


@dataclass(frozen=True)
class Status:
    """The state of one device at one moment."""

    hub: str
    device: str
    connection_state: str  # of its edgeHub, which connects all modules to the hub
    configurations: tuple[Configuration, ...]
    modules: tuple[ModuleStatus, ...]

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The rows of the table, one for each module."""
        return tuple(module.row() for module in self.modules)

    def to_json(self) -> dict[str, Any]:
        """The status as JSON types."""
        return asdict(self)


def changes(
    read: Callable[[], Status],
    *,
    pause: Callable[[], None],
    on_unavailable: Callable[[HubUnavailable], None],
) -> Iterator[Status]:
    """Yield the present status, then each one that differs from the last, for ever.

    `pause` is called between two reads. If the hub is unavailable, `on_unavailable` is called and the read is
    repeated; only the first read raises HubUnavailable.
    """
    last = read()
    yield last
    while True:
        pause()
        try:
            found = read()
        except HubUnavailable as error:
            on_unavailable(error)
            continue
        if found != last:
            last = found
            yield found


class TwinService(Protocol):
    """The part of ServiceHub that the status uses."""

    def modules(self, device: str) -> tuple[str, ...]: ...

    def module_twin(self, device: str, module: str) -> ModuleTwin: ...


def status(connection: Connection, device: str) -> Status:
    """The status of one device. Raises NotConfigured, NotFound, HubUnavailable, HubRefused."""
    with ServiceHub(connection) as hub:
        return read_status(hub, connection.host, device)


def read_status(hub: TwinService, name: str, device: str) -> Status:
    """As `status`, for an open connection to the hub `name`. Modules deleted meanwhile are left out."""
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
    has_models = "model" in twin.desired or "modelStatus" in twin.reported
    return ModuleStatus(
        twin.module,
        twin.connection_state,
        str(runtime.get("runtimeStatus") or ""),
        _number(runtime.get("restartCount")) or 0,
        ModelStatus.read(twin) if has_models else None,
        tuple(_sections(twin)),
    )


def _sections(twin: ModuleTwin) -> list[SectionStatus]:
    """Every reported section with a status code, except `model`: modelStatus has more details."""
    reports = {name: _table(twin.reported, name) for name in twin.reported if name != "model"}
    return [
        SectionStatus(name, code, str(report.get("ad") or ""))
        for name, report in reports.items()
        if (code := _number(report.get("ac"))) is not None
    ]


def _configuration(twin: ModuleTwin) -> Configuration:
    last = _table(twin.reported, "lastDesiredStatus")
    return Configuration(twin.module, _number(last.get("code")), str(last.get("description") or ""))


def _table(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _model_error(value: object) -> ModelError | None:
    if not isinstance(value, Mapping) or not value:
        return None
    return ModelError(str(value.get("code") or ""), str(value.get("message") or ""))


def _entries(history: object) -> list[Mapping[str, Any]]:
    """The history as a list. A twin may contain a list, or an object with ordered keys."""
    if isinstance(history, Mapping):
        history = [history[key] for key in sorted(history)]
    if not isinstance(history, list):
        return []
    return [entry for entry in history if isinstance(entry, Mapping)]
