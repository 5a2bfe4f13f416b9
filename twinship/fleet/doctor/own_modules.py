"""Checks Twinship's own modules: keys, model, pictures, telemetry. Without them there are no findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from inference import artefact as artefacts
from inference import model_section
from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.document import AGENT, HUB, Document, ModuleEntry, table
from twinship.fleet.doctor.images import expanded_image
from twinship.fleet.doctor.project import Project
from twinship.simulator import lint

MAX_DESIRED_BYTES = 32_768
MAX_BODY_BYTES = 258_048  # of a frame message (ref 4.8)
_SECONDS_OF_A_DAY = 86_400
#: Messages of a unit in a day (DOC:iot-hub/iot-hub-devguide-quotas-throttling.md).
_QUOTAS = {
    "F1": 8_000,
    "B1": 400_000,
    "S1": 400_000,
    "B2": 6_000_000,
    "S2": 6_000_000,
    "B3": 300_000_000,
    "S3": 300_000_000,
}
#: The newest runtime that an image of the platform can have; no LiteRT wheel exists for 32-bit ARM.
_RUNTIMES = {"arm32v7": ("tflite_runtime", "2.14.0")}


@dataclass(frozen=True)
class OwnModule:
    """Inputs and outputs of a module of Twinship.

    `hints`: variables and twin sections that only it has. `optional`: the outputs that need no route, because
    nothing is lost without one.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    hints: frozenset[str]
    frames: tuple[str, ...] = ()  # the outputs that carry pictures
    optional: tuple[str, ...] = ()
    models: bool = False  # whether its twin ships models
    platform: str = ""


_OWN = {
    "camera_sim": OwnModule(
        ("flow",),
        ("frames", "preview", "events"),
        frozenset({"CAMERA_NAME", "CAMERA_FOLDER", "CAMERA_SOURCE", "camera"}),
        frames=("frames", "preview"),
        optional=("preview", "events"),
    ),
    "inference": OwnModule(
        ("frames",),
        ("predictions", "latency", "flow", "events"),
        frozenset({"MODEL_TRUSTED_KEYS", "MODEL_SIGNATURE", "inference"}),
        optional=("events",),
        models=True,
    ),
    "dashboard": OwnModule(
        ("predictions", "latency", "events", "preview"),
        (),
        frozenset({"DASHBOARD_HOSTS", "DASHBOARD_TOKEN", "DASHBOARD_LISTEN"}),
    ),
}


def own_modules(document: Document, project: Project) -> dict[str, OwnModule]:
    """The modules of Twinship in this deployment, by name: known by their image and by their settings."""
    found = {}
    for module in document.modules():
        image = expanded_image(module, project)
        own = _OWN.get(image.repository) if image else None
        if image and own and own.hints & {*module.env, *document.desired.get(module.name, {})}:
            found[module.name] = replace(own, platform=image.platform)
    return found


def check(document: Document, project: Project, own: Mapping[str, OwnModule]) -> Iterator[Finding]:
    """All findings about Twinship's own modules, and about the model and the pictures."""
    artefact, refused = _artefact(project)
    if refused:
        yield refused
    for module in document.modules():
        role = own.get(module.name)
        if role is None:
            continue
        if role.frames:
            yield from _pictures(document, module.name, project)
        if role.models:
            yield from _keys(document, module)
            yield from _model(document, module.name, role, project, artefact)
            yield from _section(document, module.name)
    yield from _quota(document, project, own)
    if project.pictures is not None and not project.pictures.count:
        yield finding("TW305", project.pictures.folder, 0, "it has no PNG, JPEG or other picture")


def _keys(document: Document, module: ModuleEntry) -> Iterator[Finding]:
    required = module.env.get("MODEL_SIGNATURE", "required") != "optional"
    if required and not module.env.get("MODEL_TRUSTED_KEYS", "").strip():
        cause = f"module {module.name!r} refuses every model"
        yield document.found("TW301", cause, AGENT, *module.path, "env", "MODEL_TRUSTED_KEYS")


def _artefact(project: Project) -> tuple[artefacts.Artefact | None, Finding | None]:
    if project.model is None:
        return None, None
    name, data = project.model
    try:
        return artefacts.read(data), None
    except artefacts.BadArtefact as error:
        return None, finding("TW303", name, 0, error.reason)


def _model(
    document: Document, module: str, own: OwnModule, project: Project, artefact: artefacts.Artefact | None
) -> Iterator[Finding]:
    if artefact is None or project.model is None:
        return
    file, described = project.model[0], artefact.manifest
    ref = model_section.ModelRef(described.name, described.version, len(artefact.data), "0" * 64)
    try:
        section = model_section.section_for(ref, artefact.data)
        size = model_section.twin_bytes({**document.desired.get(module, {}), "model": section})
        if size > MAX_DESIRED_BYTES:
            yield finding("TW302", file, 0, f"the twin of {module!r} would have {size} bytes")
    except model_section.DoesNotFit as error:
        yield finding("TW302", file, 0, str(error))
    runtime, newest = _RUNTIMES.get(own.platform, ("", ""))
    lowest = described.minimumRuntime.get(runtime, "0")
    if runtime and _parts(lowest) > _parts(newest):
        yield finding("TW024", file, 0, f"it needs {runtime} {lowest[:32]}, {own.platform} has {newest}")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")[:3])


def _section(document: Document, module: str) -> Iterator[Finding]:
    section = document.desired.get(module, {}).get("model")
    if section is None:
        return
    try:
        model_section.parse(section)
    except model_section.InvalidSection as error:
        yield document.found("TW308", str(error), module, "model")


def _pictures(document: Document, module: str, project: Project) -> Iterator[Finding]:
    encoding = str(table(document.desired.get(module, {}).get("camera")).get("encoding", "png"))
    found = project.pictures.too_large.get(encoding) if project.pictures else None
    if found:
        name, size = found
        cause = f"{name} has {size:,} bytes as {encoding}, {MAX_BODY_BYTES:,} fit into a message"
        yield document.found("TW304", cause, module, "camera", "encoding")


def _quota(document: Document, project: Project, own: Mapping[str, OwnModule]) -> Iterator[Finding]:
    tier = project.environment.get("IOTHUB_SKU", "").strip().upper() or "S1"
    quota = _QUOTAS.get(tier)
    frames = sum(_frames_in_a_day(document, name) for name, each in own.items() if each.frames)
    for name, each in own.items():
        if quota is None or not each.models:
            continue
        telemetry = table(document.desired.get(name, {}).get("telemetry"))
        messages = 0.0
        if telemetry.get("predictions") == "all" and _goes_upstream(document, name, "predictions"):
            messages += frames
        if _goes_upstream(document, name, "latency"):
            messages += _SECONDS_OF_A_DAY / _number(telemetry.get("intervalSeconds"), 10)
        if limit := _number(telemetry.get("maxPerDay"), 0):
            messages = min(messages, limit)
        if messages > quota:
            cause = f"module {name!r} sends {messages:,.0f} messages a day, a unit of {tier} takes {quota:,}"
            yield document.found("TW306", cause, name, "telemetry")


def _frames_in_a_day(document: Document, camera: str) -> float:
    """Messages with frames in a day; a camera with a limited run or on pause sends none that count."""
    settings = table(document.desired.get(camera, {}).get("camera"))
    if settings.get("paused") or settings.get("frames"):
        return 0
    fps, batch = _number(settings.get("fps"), 10), _number(settings.get("batch"), 1)
    return fps / batch * _SECONDS_OF_A_DAY


def _goes_upstream(document: Document, module: str, output: str) -> bool:
    source = f"/messages/modules/{module}/outputs/{output}"
    for name, value in table(document.desired.get(HUB, {}).get("routes")).items():
        try:
            route = lint.parse_route(name, value, {"schemaVersion": "1.1"})
        except ValueError:
            continue
        if route and route.sink.module is None and lint.takes(route, source, always=True):
            return True
    return False


def _number(value: object, default: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if usable else default  # type: ignore[arg-type]
