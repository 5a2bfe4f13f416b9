"""The one command. Parses, calls one room, prints; every room is imported inside the verb that needs it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from fleet.connection import Connection
    from fleet.monitor import UpstreamMessage
    from fleet.rollout import RollOut
    from inference.prediction import Scored
    from training.choose import Candidate
    from training.export import Variant
    from training.train import TrainResult

EXIT_INTERRUPTED = 130
ROOT = Path(__file__).resolve().parent  # the manifest and the modules' folders stand beside this file
TEMPLATE = ROOT / "deployment.template.json"
BUILD = Path("build")
Choice = TypeVar("Choice", bound=StrEnum)
DOT_ENV = Path(".env")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Train an image model, ship it to an IoT Edge device by module twin, see every millisecond.",
)
keys_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Signing keys.")
app.add_typer(keys_app, name="keys")

EnvFile = Annotated[Path, typer.Option("--env-file", help="KEY=VALUE lines, as the simulator's service.env.")]
Device = Annotated[str | None, typer.Option(help="Edge device [EDGE_DEVICE_ID, else twinship].")]
Module = Annotated[str, typer.Option(help="The module whose twin is meant.")]
Json = Annotated[bool, typer.Option("--json", help="For scripts.")]
Template = Annotated[Path, typer.Option(help="The deployment manifest.")]
Key = Annotated[str | None, typer.Option("--key", help="Id of the signing key, where there are several.")]
Fleet = Annotated[
    str | None, typer.Option("--deployment", help="For many devices: an automatic deployment of this id.")
]
Condition = Annotated[
    str, typer.Option("--target-condition", help="Which devices, as \"tags.site='lab'\"; '*': all.")
]
Dataset = Annotated[
    str,
    typer.Option(
        help="mnist, fashion_mnist, digits, folder:PATH, npz:FILE; auto: MNIST if it can be had, else digits."
    ),
]


def _say(text: str) -> None:
    print(text, flush=True)


def _say_json(value: Any, indent: int | None = 2) -> None:
    _say(json.dumps(value, indent=indent, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """A dataclass as JSON types."""
    return json.loads(json.dumps(asdict(value), default=str))


def _draw(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, highlight=False)


def _one_of(kind: type[Choice], option: str, value: str | None) -> Choice | None:
    """A word of a set that only a room knows, which is not loaded for --help."""
    try:
        return None if value is None else kind(value)
    except ValueError:
        raise typer.BadParameter(f"{option} {value}: use {' or '.join(kind)}") from None


def _progress() -> Callable[[str, float], None]:
    """Shows a share of 1 on stderr: one line that changes, or in a log one line for each tenth."""
    said = -1

    def show(text: str, share: float) -> None:
        nonlocal said
        if sys.stderr.isatty():
            print(f"\r\033[K{share:4.0%} {text}", end="" if share < 1 else "\n", file=sys.stderr, flush=True)
        elif int(share * 10) != said:
            said = int(share * 10)
            print(f"{share:4.0%} {text}", file=sys.stderr, flush=True)

    return show


def _hub(env_file: Path) -> Connection:
    from fleet import connection

    return connection.find(os.environ, env_file)


def _device(device: str | None, env_file: Path) -> str:
    from fleet import connection

    return device or connection.device_name(os.environ, env_file)


# -- models --------------------------------------------------------------------------------------------------


@app.command("train")
def train_verb(
    arch: Annotated[
        str, typer.Option(help="seed, micro, small, svm; auto: the smallest within the limits.")
    ] = "micro",
    dataset: Dataset = "auto",
    profile: Annotated[str, typer.Option(help="full, or quick: seconds instead of minutes.")] = "full",
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 1,
    name: Annotated[str | None, typer.Option(help="The model's name [after the data set].")] = None,
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0.0",
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = BUILD / "model",
    min_accuracy: Annotated[float | None, typer.Option(help="Below this the training fails.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Of the flatbuffer, as 22KB.")] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Median of one picture, here.")] = None,
    optimise: Annotated[str, typer.Option(help="int8, float16, dynamic or float32.")] = "int8",
    variants: Annotated[bool, typer.Option("--variants", help="Measure all optimisations.")] = False,
    max_side: Annotated[int, typer.Option(help="Larger pictures are made smaller, pixels.")] = 96,
    force: Annotated[bool, typer.Option("--force", help="Also when the same result is there.")] = False,
    as_json: Json = False,
) -> None:
    """Train, convert, verify on the device's runtimes, write an artefact."""
    from training.choose import NoneFits
    from training.settings import model_name, size_bytes
    from training.train import TrainSettings, train

    settings = TrainSettings(
        architecture=arch,
        dataset=dataset,
        profile=profile,
        epochs=epochs,
        seed=seed,
        name=model_name(dataset) if name is None else name,
        version=version,
        out=out,
        min_accuracy=min_accuracy,
        force=force,
        max_size_bytes=None if max_size is None else size_bytes(max_size),
        max_latency_ms=max_latency_ms,
        optimisation=optimise,
        variants=variants,
        max_side=max_side,
    )
    try:
        result = train(settings, _progress())
    except NoneFits as error:
        if not as_json:
            _draw_candidates(error.candidates)
        raise
    if as_json:
        _say_json(result.metrics.model_dump(by_alias=True))
    else:
        _say_trained(result)


def _say_trained(result: TrainResult) -> None:
    from training.data.report import lines

    metrics = result.metrics
    facts, accuracy = metrics.dataset, metrics.accuracy
    _say(f"{facts.name}: {facts.source}, because {facts.why}")
    for line in lines(facts.report):
        _say(line)
    if len(metrics.candidates) > 1:
        _draw_candidates(metrics.candidates)
    if metrics.variants:
        _draw_variants(metrics.variants)
    name = metrics.optimisation
    shipped = ", ".join(f"{share:.2%} {name} on {runtime}" for runtime, share in accuracy.shipped.items())
    _say(f"accuracy on {facts.test:,} test pictures: {accuracy.float32:.2%} float, {shipped}")
    fits = "fits" if metrics.inline.fits else "does not fit"
    _say(
        f"{result.artefact}: {metrics.architecture}, {metrics.sizes.artefact_bytes:,} bytes; "
        f"{fits} inside a twin; see {result.card}"
    )


def _draw_candidates(candidates: Sequence[Candidate]) -> None:
    rows = [
        (
            each.architecture,
            f"{each.tflite_bytes:,}",
            f"{each.accuracy:.2%}",
            f"{each.p50_ms:.3f} ms",
            "; ".join(each.failed) or "passes",
        )
        for each in candidates
    ]
    _draw(("network", "bytes", "right", "median", "limits"), rows)


def _draw_variants(variants: Sequence[Variant]) -> None:
    rows = [
        (
            each.optimisation,
            f"{each.tflite_bytes:,}",
            runtime,
            f"{on.accuracy:.2%}",
            f"{on.cost.p50_ms:.3f} ms",
            f"{on.cost.memory_bytes / 1e6:.1f} MB",
        )
        for each in variants
        for runtime, on in each.runtimes.items()
    ]
    refused = [
        (each.optimisation, f"{each.tflite_bytes:,}", runtime, why, "", "")
        for each in variants
        for runtime, why in each.refused.items()
    ]
    _draw(("optimisation", "bytes", "runtime", "right", "median", "memory"), [*rows, *refused])


@app.command("verify")
def verify_verb(
    model: Annotated[Path, typer.Argument(help="An artefact: the model.tflite of a training.")],
    dataset: Dataset = "auto",
    as_json: Json = False,
) -> None:
    """Prove an artefact as a device does, and count its answers on every runtime."""
    from training import data, verify
    from training.data.pictures import exactly

    shaping = exactly(verify.read_file(model).manifest.input)
    found = data.find(dataset, os.environ, shaping=shaping)
    verified = verify.verify_file(model, found.labels, found.test)
    if as_json:
        _say_json({"dataset": found.name, "test": len(found.test), "accuracy": dict(verified.accuracy)})
        return
    _say(f"{found.name}: {found.source}, because {found.why}")
    shares = [(runtime, f"{share:.2%}") for runtime, share in verified.accuracy.items()]
    _draw(("runtime", f"right of {len(found.test):,}"), shares)


@app.command("predict")
def predict_verb(
    model: Annotated[Path, typer.Argument(help="An artefact: the model.tflite of a training.")],
    pictures: Annotated[list[Path], typer.Argument(help="PNG, JPEG or BMP files.")],
    top: Annotated[int, typer.Option(help="How many labels.", min=1)] = 3,
    runtime: Annotated[str, typer.Option(help="auto, litert or tflite_runtime.")] = "auto",
    as_json: Json = False,
) -> None:
    """Classify picture files with the device's own code; no hub."""
    from inference.artefact import read
    from inference.predict import FilePrediction, predict_files

    found = list(predict_files(read(model.read_bytes()), pictures, top_k=top, runtime=runtime))
    answered = [one for one in found if isinstance(one, FilePrediction)]
    unreadable = [one for one in found if not isinstance(one, FilePrediction)]
    if as_json:
        _say_json([_plain(one) for one in found])
    else:
        _draw(
            ("picture", "label", "confidence", "next"),
            [(str(one.path), *_surest(one.top)) for one in answered],
        )
    for one in unreadable:
        print(f"twinship: {one.path} cannot be read: {one.reason}", file=sys.stderr)
    if unreadable:
        raise typer.Exit(1)


def _surest(top: Sequence[Scored]) -> tuple[str, str, str]:
    others = ", ".join(f"{other.label} {other.confidence:.1%}" for other in top[1:])
    return top[0].label, f"{top[0].confidence:.1%}", others


# -- the operator's side -------------------------------------------------------------------------------------


@keys_app.command("new")
def keys_new() -> None:
    """Make a signing key."""
    from fleet import keys

    _say(f"key {keys.new(keys.keys_folder(os.environ)).key_id}; next: twinship keys show --env-file .env")


@keys_app.command("show")
def keys_show(
    env_file: Annotated[
        Path | None, typer.Option("--env-file", help="Write MODEL_TRUSTED_KEYS there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the keys; public parts only."""
    from fleet import keys

    folder = keys.keys_folder(os.environ)
    found = keys.show(folder)
    if env_file is not None:
        keys.write_trusted_keys(folder, env_file)
    if as_json:
        _say_json([_plain(key) for key in found])
        return
    _draw(
        ("id", "public", "made", "state"),
        [(key.key_id, key.public, key.created, "retired" if key.retired else "trusted") for key in found],
    )
    if env_file is not None:
        _say(f"MODEL_TRUSTED_KEYS written to {env_file}; next: twinship deploy")


@keys_app.command("retire")
def keys_retire(key_id: Annotated[str, typer.Argument(help="As keys show lists it.")]) -> None:
    """Trust a key no more, from the next deploy on."""
    from fleet import keys

    key = keys.retire(keys.keys_folder(os.environ), key_id)
    _say(f"key {key.key_id} is retired; next: twinship keys show --env-file .env, then twinship deploy")


@app.command("deploy")
def deploy_verb(
    template: Template = TEMPLATE,
    device: Device = None,
    create: Annotated[bool, typer.Option("--create", help="Make the device if the hub lacks it.")] = False,
    deployment: Fleet = None,
    target_condition: Condition = "",
    priority: Annotated[int, typer.Option(help="Of the automatic deployment.")] = 0,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Set a device's modules, routes and twins from the manifest."""
    from fleet import connection, deploy, rollout

    # --env-file may name only a hub (the simulator's service.env): what the manifest needs stands in .env.
    variables = connection.read_env_file(DOT_ENV) | connection.settings(os.environ, env_file)
    if deployment is not None:
        targeting = rollout.Targeting(deployment, target_condition, priority)
        _say_roll_out(deploy.deploy_base(_hub(env_file), template, variables, targeting), as_json)
        return
    result = deploy.deploy(_hub(env_file), template, variables, _device(device, env_file), create=create)
    if as_json:
        _say_json(result.to_json())
        return
    _draw(("module", "image"), list(result.images.items()))
    _say(f"deployed to {result.device} on {result.hub}; routes: {', '.join(result.routes)}")
    if result.undefined:
        _say(f"not set, so deployed as they stand: {', '.join(result.undefined)}; cure: set them in .env")
    for module in result.unassigned:
        _say(f"{module} keeps its model but is assigned none now; next: twinship publish")


def _say_roll_out(done: RollOut, as_json: bool) -> None:
    if as_json:
        _say_json(done.to_json())
        return
    _say(f"deployment {done.configuration} {done.how} on {done.hub}: {done.targeting.condition}")
    if done.replaced:
        _say(f"in the place of {', '.join(done.replaced)}")


@app.command("publish")
def publish_verb(
    model: Annotated[Path, typer.Argument(help="An artefact: the model.tflite of a training.")],
    device: Device = None,
    module: Module = "inference",
    key: Key = None,
    url: Annotated[str | None, typer.Option(help="You host it there; devices fetch it by https.")] = None,
    store: Annotated[str | None, typer.Option(help="blob or simulator: put it there first.")] = None,
    container: Annotated[str, typer.Option(help="Of the blob store.")] = "models",
    valid_days: Annotated[float, typer.Option(help="How long a blob's address is good.")] = 30.0,
    deployment: Fleet = None,
    target_condition: Condition = "",
    priority: Annotated[int, typer.Option(help="Of the deployment; above the manifest's.")] = 10,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the verdict; 0: do not.")] = 120.0,
    print_patch: Annotated[
        bool, typer.Option("--print", help="Only print the twin patch, for az or the portal.")
    ] = False,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Ship a model by module twin and wait until it answers frames."""
    from fleet import connection, keys, publish, rollout, sources

    variables = connection.settings(os.environ, env_file)
    blob = sources.BlobOptions(container, valid_days)
    place = sources.chosen(url, _one_of(sources.StoreKind, "--store", store), variables, blob)
    signing = keys.signing_key(keys.keys_folder(os.environ), key)
    if print_patch:
        signed = publish.sign(model, signing, place)
        layered = {"modulesContent": publish.layer(signed, module)}
        _say_json({"properties": {"desired": signed.patch()}} if deployment is None else layered)
        return
    if deployment is not None:
        targeting = rollout.Targeting(deployment, target_condition, priority)
        _say_roll_out(
            publish.publish_layer(_hub(env_file), model, signing, module, targeting, place=place), as_json
        )
        return
    result = publish.publish(
        _hub(env_file),
        model,
        signing,
        _device(device, env_file),
        module,
        place=place,
        wait_s=wait,
        until_active=False,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if as_json:
        _say_json(result.to_json())
    if wait and not result.ok:
        raise SystemExit(
            f"twinship: {result.ref} is not in use: {result.verdict.state} after {result.waited_s:.0f} s"
        )


@app.command("status")
def status_verb(
    device: Device = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again whenever it changes, until Ctrl-C.")] = False,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """What a device runs, wants and refused, and why."""
    import time

    from fleet import status

    hub, name = _hub(env_file), _device(device, env_file)
    found = status.changes(
        lambda: status.status(hub, name),
        pause=lambda: time.sleep(2),
        away=lambda error: print(f"twinship: {error}", file=sys.stderr, flush=True),
    )
    for one in found:
        if as_json:
            _say_json(one.to_json(), indent=None if watch else 2)
        else:
            _draw(status.COLUMNS, list(one.rows()))
        if not watch:
            return


@app.command("rollback")
def rollback_verb(
    device: Device = None, module: Module = "inference", env_file: EnvFile = DOT_ENV, as_json: Json = False
) -> None:
    """Go back to the model before, which the device still has; the present one is not tried again."""
    from fleet import rollback

    done = rollback.rollback(_hub(env_file), _device(device, env_file), module)
    if as_json:
        _say_json(done.to_json())
        return
    _say(f"{done.device}/{done.module} answers with {done.model} now (sha256 {done.model.sha256[:12]})")


@app.command("benchmark")
def benchmark_verb(
    device: Device = None,
    module: Module = "inference",
    queries: Annotated[int, typer.Option(help="As many invokes, one after the other.")] = 1024,
    seconds: Annotated[float, typer.Option(help="No longer than this, however many that makes.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this file, as JSON.")] = None,
    env_file: EnvFile = DOT_ENV,
    as_json: Json = False,
) -> None:
    """Measure the running model's bare speed on the device itself."""
    from fleet import methods
    from fleet.service import ServiceHub

    with ServiceHub(_hub(env_file)) as hub:
        answer = methods.invoke(
            hub,
            _device(device, env_file),
            module,
            "benchmark",
            {"queries": queries, "seconds": seconds},
            timeout_s=seconds + methods.START_S,
        )
    found = methods.accepted(answer, module, "benchmark")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=2) + "\n")
    if as_json:
        _say_json(found)
        return
    model, machine, invoke = found["model"], found["device"], found["invoke_ms"]
    _say(f"{model['name']}:{model['version']} on {found['runtime']} {found['runtime_version']}")
    _say(f"{machine['processor']}, {machine['machine']}, {machine['cores']} cores, {machine['memory_mb']} MB")
    _draw(
        ("queries", "a second", "p50 ms", "p90 ms", "p99 ms"),
        [(str(found["queries"]), f"{found['per_s']:,.0f}", *(f"{ms:.3f}" for ms in invoke.values()))],
    )


@app.command("monitor")
def monitor_verb(
    upstream: Annotated[Path, typer.Option(help="The simulator's upstream.jsonl.")] = BUILD
    / "simulator"
    / "upstream.jsonl",
    from_start: Annotated[bool, typer.Option("--from-start", help="Old messages too.")] = False,
    as_json: Json = False,
) -> None:
    """Follow predictions and latency upstream, until Ctrl-C."""
    from threading import Event

    from fleet.monitor import Follower

    follower = Follower(upstream, stop=Event(), from_start=from_start)
    try:
        for message in follower:
            if as_json:
                _say_json(_plain(message), indent=None)
            else:
                _say(_told(message))
    finally:
        if follower.skipped:
            print(f"twinship: {follower.skipped} lines could not be read", file=sys.stderr)


def _told(message: UpstreamMessage) -> str:
    """One message from upstream as one line."""
    from fleet.monitor import Latency, Prediction

    source = f"{message.source.enqueued} {message.source.device}/{message.source.module}"
    match message:
        case Prediction():
            ms = sum(message.stages_ms.values())
            sure = "?" if message.uncertain else ""
            answer = f"{message.label}{sure} {message.confidence:.1%}"
            return f"{source} {message.camera} #{message.seq}: {answer}, {message.model}, {ms:.1f} ms"
        case Latency():
            total = message.stages_ms.get("total", {})
            drops = ", ".join(f"{count} {reason}" for reason, count in message.dropped.items() if count)
            p50, p99 = total.get("p50", 0.0), total.get("p99", 0.0)
            return (
                f"{source} {message.frames} frames in {message.window_s:.0f} s: total p50 {p50:.1f} ms, "
                f"p99 {p99:.1f} ms, dropped: {drops or 'none'}, repeats: {message.repeats}"
            )
        case _:
            return f"{source} {len(str(message.body))} characters of an unknown schema"


# -- the local edge ------------------------------------------------------------------------------------------


@app.command("simulate")
def simulate_verb(
    template: Template = TEMPLATE,
    folder: Annotated[Path, typer.Option(help="State, logs, certificates, upstream.jsonl.")] = BUILD
    / "simulator",
    leave_out: Annotated[
        list[str] | None, typer.Option("--except", help="Do not start this module; print its environment.")
    ] = None,
    delivery_window: Annotated[int, typer.Option(help="Messages outstanding for a module.", min=1)] = 1,
    env_file: EnvFile = DOT_ENV,
) -> None:
    """Run IoT Hub, edgeHub and the manifest's modules on this machine, until Ctrl-C."""
    from fleet import connection
    from simulator.agent import Simulator, SimulatorSettings

    settings = SimulatorSettings(
        template,
        folder,
        connection.settings(os.environ, env_file),
        leave_out=frozenset(leave_out or ()),
        delivery_window=delivery_window,
    )
    with Simulator(settings) as simulator:
        simulator.start_modules()
        for name in leave_out or ():
            for variable, value in simulator.module_environment(name).items():
                _say(f"export {variable}={value!r}")
        print(f"ready: --env-file {simulator.endpoints.service_env}; Ctrl-C ends it", file=sys.stderr)
        signal.pause()


@app.command("fault")
def fault_verb(
    name: Annotated[str | None, typer.Argument(help="Which; without one: what there is, and is on.")] = None,
    value: Annotated[str | None, typer.Argument(help="A number, or off.")] = None,
    folder: Annotated[Path, typer.Option(help="The simulator's.")] = BUILD / "simulator",
    as_json: Json = False,
) -> None:
    """Switch a fault of the running simulator on or off; NAME `off` ends all."""
    from simulator import fault_client
    from simulator.faults import ACTS, KNOBS, number

    if name is None:
        told = fault_client.show(folder)
    elif name == "off":
        told = fault_client.end_faults(folder)
    else:
        told = fault_client.set_fault(folder, name, number(value))
    if as_json:
        _say_json(told)
        return
    on = told["faults"]
    rows = [(each, f"{on.get(each, 0):g}", knob.unit, knob.effect) for each, knob in KNOBS.items()]
    _draw(("fault", "now", "unit", "effect"), [*rows, *((act, "", "", does) for act, does in ACTS.items())])


@app.command("demo")
def demo_verb(
    frames: Annotated[int, typer.Option(help="0: until Ctrl-C.", min=0)] = 300,
    fps: Annotated[float, typer.Option(help="Frames in a second.")] = 10.0,
    camera_folder: Annotated[Path | None, typer.Option(help="Your own pictures.")] = None,
    dataset: Dataset = "auto",
    template: Template = TEMPLATE,
    folder: Annotated[Path, typer.Option(help="Emptied at start; the figures end up there.")] = BUILD
    / "demo",
    models: Annotated[Path, typer.Option(help="Where the two models are kept.")] = BUILD / "demo-models",
    as_json: Json = False,
) -> None:
    """The whole path: train, ship by twin, run frames, swap the model, account for all."""
    from rich.console import Console

    from demo.models import ensure
    from demo.run import DemoSettings, Run
    from demo.show import Screen

    screen = Screen(Console(stderr=as_json))
    data = ensure(models, dataset, camera_folder, _progress())
    screen.step(f"data: {data.dataset}")
    outcome = Run(DemoSettings(template, folder, frames, fps), data, screen).run()
    if as_json:
        _say_json(outcome.summary.to_json())
    screen.summary(outcome.summary, outcome.shortcomings)
    screen.step(f"figures: {folder / 'summary.json'}")
    if outcome.interrupted or outcome.shortcomings:
        raise typer.Exit(EXIT_INTERRUPTED if outcome.interrupted else 1)


# -- the measurements ----------------------------------------------------------------------------------------


@app.command("bench")
def bench_verb(
    scenarios: Annotated[list[str] | None, typer.Argument(help="None: those of every day.")] = None,
    dataset: Dataset = "auto",
    folder: Annotated[Path, typer.Option(help="The report ends up there.")] = BUILD / "bench",
    models: Annotated[Path, typer.Option(help="Where the two models are kept.")] = BUILD / "demo-models",
    as_json: Json = False,
) -> None:
    """Measure on the real path; writes report.json and report.html."""
    from bench.run import run

    report = run(tuple(scenarios or ()), folder, models, dataset, _progress())
    if as_json:
        _say_json(report)
    else:
        _say(f"figures: {folder / 'report.json'}")


@app.command("advise")
def advise_verb(
    fps: Annotated[float, typer.Option(help="Frames in a second.")],
    max_latency_ms: Annotated[float, typer.Option(help="From a frame to its answer.")],
    bandwidth: Annotated[str, typer.Option(help="Of the link to the cloud: 2Mbit, 250kB.")],
    rtt_ms: Annotated[float, typer.Option(help="Round trip to the cloud; 0 flatters the cloud.")] = 0.0,
    frame_bytes: Annotated[int, typer.Option(help="A frame on the wire.")] = 1_000,
    hop_ms: Annotated[float, typer.Option(help="One hop through edgeHub.")] = 10.0,
    accuracy: Annotated[float, typer.Option(help="At least this share of answers right.")] = 0.0,
    cost: Annotated[bool, typer.Option("--cost", help="Units of each tier of IoT Hub; no prices.")] = False,
    build: Annotated[Path, typer.Option(help="Trained models are looked for below.")] = BUILD,
    as_json: Json = False,
) -> None:
    """Edge or cloud, which model, which measured device, and how many messages a day."""
    from bench import advice
    from bench.advise import Wish, advise, gather
    from bench.quantities import bandwidth as parsed

    wish = Wish(fps, max_latency_ms, parsed(bandwidth), rtt_ms, frame_bytes, hop_ms, accuracy)
    found = advise(wish, *gather(build))
    if as_json:
        _say_json(advice.to_json(wish, found))
    else:
        for line in advice.verdict(wish, found):
            _say(line)
        for title, columns, rows in advice.tables(found, cost=cost):
            _say(f"\n{title}")
            _draw(columns, rows)
    if found.place == "neither":
        raise typer.Exit(1)


# -- the way in ----------------------------------------------------------------------------------------------


def _one_line(error: Exception) -> str:
    """An error of ours, or of the command line, says by itself what is wrong; any other is named too."""
    text = " ".join(str(error).split())
    ours = {"fleet", "simulator", "training", "inference", "edgekit", "demo", "bench", "typer"}
    if type(error).__module__.split(".")[0] in ours:
        return text
    return f"{type(error).__name__}: {text} (twinship --debug … shows where)"


def main() -> None:
    """Run a verb. Exit code 0 only on success; one line on stderr else; 130 after Ctrl-C; never a traceback,
    unless `--debug` stands before the verb."""
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # with every `with` left in order
    debug = "--debug" in sys.argv[1:2]
    if debug:
        del sys.argv[1]
    try:
        code = app(standalone_mode=False, prog_name="twinship")
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:
        if debug:
            raise
        print(f"twinship: {_one_line(error)}", file=sys.stderr)
        code = getattr(error, "exit_code", 1)
    if code == EXIT_INTERRUPTED:
        print("twinship: interrupted", file=sys.stderr)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
