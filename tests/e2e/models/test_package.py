"""Models of others through the whole path: package, publish, frames, predictions upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.conftest import ROOT, Edge
from tests.e2e.models.test_swap import DEVICE, hub_of, patch
from tests.e2e.waiting import wait_until
from tests.models import REAL_DATA
from tests.unit.twinship.packaging import graphs
from twinship.fleet import connection, keys
from twinship.fleet.artefact_store import simulator_folder
from twinship.fleet.publish import PublishResult, publish
from twinship.packaging.choose import Options
from twinship.packaging.package import Request, package
from twinship.simulator.launcher import Simulator, SimulatorSettings

pytestmark = pytest.mark.e2e

DATA = REAL_DATA / "coral"
PHOTOGRAPHS = {
    "cat_720p.jpg": "Egyptian cat",
    "parrot.jpg": "macaw",
    "hot_dog.jpg": "hotdog, hot dog, red hot",
    "grace_hopper.bmp": "military uniform",
}


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """The folder of the camera; a test fills it before it starts the modules."""
    (tmp_path / "frames").mkdir()
    return tmp_path / "frames"


@pytest.fixture
def place(tmp_path: Path, frames: Path) -> Iterator[Edge]:
    """A simulator whose camera replays `frames`."""
    keys.new(tmp_path / "keys")
    variables = {
        "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(tmp_path / "keys"),
        "CAMERA_FOLDER": str(frames),
    }
    settings = SimulatorSettings(ROOT / "deployment.template.json", tmp_path / "simulator", variables)
    with Simulator(settings) as simulator:
        yield Edge(simulator, tmp_path / "keys", tmp_path)


def ship(edge: Edge, model: Path) -> PublishResult:
    """Publish, in the twin or in the folder that the simulator serves."""
    hub, key = hub_of(edge), keys.signing_key(edge.keys)
    store = simulator_folder(connection.settings({}, Path(edge.env_file)))
    return publish(hub, model, key, DEVICE, "inference", store=store, wait_s=120, until_active=False)


def bodies(edge: Edge, schema: str) -> list[dict[str, Any]]:
    """The messages of a schema that arrived upstream."""
    found = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    return [body for body in found if body.get("schema") == schema]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no photographs and models of Coral in {DATA}")
@pytest.mark.long
def test_a_mobilenet_of_others_names_photographs(place: Edge, frames: Path, tmp_path: Path) -> None:
    """Cat, macaw, hot dog and uniform arrive upstream, and nothing else."""
    for name in PHOTOGRAPHS:
        photograph = Image.open(DATA / name).convert("RGB")
        photograph.thumbnail((448, 448))  # a message carries 250 KB
        photograph.save(frames / f"{Path(name).stem}.jpg", quality=90)
    made = package(
        Request(DATA / "tf2_mobilenet_v2_1.0_224_ptq.tflite", tmp_path / "m", "mobilenet", "1.0.0")
    )
    # Slow enough that no frame is skipped: on a busy machine it would always be the same photograph.
    patch(place, "camera_sim", {"camera": {"fps": 2}})
    patch(place, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    place.simulator.start_modules()
    assert ship(place, made.out).ok
    wait_until(
        lambda: (
            {body["top"][0]["label"] for body in bodies(place, "twinship.prediction.v1")}
            == set(PHOTOGRAPHS.values())
        ),
        "the four names",
    )


@pytest.mark.long
def test_a_detector_and_a_classifier_replace_each_other_while_frames_flow(
    place: Edge, frames: Path, tmp_path: Path
) -> None:
    """Each answers in its own schema; every frame has one answer, and the boxes are those of the picture."""
    Image.fromarray(graphs.picture(255, 200)).save(frames / "both.png")
    options = Options(labels="left\nright", mean=(0,), std=(255,))
    made = {}
    for name, model in (("classifier", graphs.classifier()), ("detector", graphs.ssd())):
        (tmp_path / name).write_bytes(model)
        made[name] = package(
            Request(tmp_path / name, tmp_path / f"{name}.out", name, "1", options, probes=frames)
        ).out
    patch(place, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    place.simulator.start_modules()

    def more(schema: str, than: int) -> bool:
        return len(bodies(place, schema)) > than

    for name, schema in (
        ("classifier", "twinship.prediction.v1"),
        ("detector", "twinship.detection.v1"),
        ("classifier", "twinship.prediction.v1"),
    ):
        before = len(bodies(place, schema))
        assert ship(place, made[name]).ok
        wait_until(partial(more, schema, before + 20), f"answers of the {name}")
    found = bodies(place, "twinship.detection.v1")
    assert [each["label"] for each in found[0]["detections"]] == ["left", "right"]
    assert found[0]["detections"][1]["box"] == {"l": 0.5, "t": 0.0, "w": 0.5, "h": 1.0}
    answered = [body["frame"] for body in found + bodies(place, "twinship.prediction.v1")]
    assert len({tuple(frame.values()) for frame in answered}) == len(answered)
