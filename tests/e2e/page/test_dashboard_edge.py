"""The dashboard beside the simulator and the real modules, in a browser: frames, models, leases, upstream."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.commands.test_demo import demo_arguments, read_until
from tests.e2e.conftest import ROOT, Command, Edge
from tests.e2e.models.test_swap import DEVICE, patch, reported, ship
from tests.e2e.page.browsing import NEEDS_CHROMIUM, chromium, expect_text, loaded_frames, opened
from tests.e2e.waiting import PATIENCE_S, wait_until
from twinship.demo.page import page_address
from twinship.fleet import keys
from twinship.fleet.signed_artefact import sign
from twinship.simulator.launcher import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TEMPLATE = ROOT / "deployment.dashboard.template.json"

pytestmark = [pytest.mark.e2e, pytest.mark.long, NEEDS_CHROMIUM]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    yield from chromium()


@dataclass(frozen=True)
class Shown:
    """A running edge with the dashboard, and the address of its page."""

    edge: Edge
    url: str

    def pid(self, module: str) -> int:
        """The process of a module."""
        pid = self.edge.simulator.states()[module].pid
        assert pid is not None
        return pid


@contextmanager
def shown_edge(folder: Path, models: Path) -> Iterator[Shown]:
    """The manifest's modules with the dashboard on a free port; every answer is sent."""
    port = free_port()
    keys.new(folder / "keys")
    settings = SimulatorSettings(
        TEMPLATE,
        folder / "simulator",
        {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys"),
            "CAMERA_FOLDER": str(models / "1.0.0" / "frames"),
        },
        module_environment={"dashboard": {"DASHBOARD_LISTEN": f"127.0.0.1:{port}"}},
    )
    assert page_address(settings) == f"http://127.0.0.1:{port}/"
    with Simulator(settings) as simulator:
        edge = Edge(simulator, folder / "keys", folder)
        patch(edge, "inference", {"telemetry": {"predictions": "all", "intervalSeconds": 1}})
        simulator.start_modules()
        wait_served(port)
        yield Shown(edge, page_address(settings))


def test_two_models_one_after_the_other_are_seen_on_the_page(
    browser: Browser, tmp_path: Path, models: Path
) -> None:
    """The real modules: frames, answers, stages, the time line; the page outlives its module and says so."""
    with shown_edge(tmp_path, models) as shown:
        edge = shown.edge
        page = opened(browser, shown.url)
        expect_text(page, "#link", "Live")
        expect_text(page, "#notes", "because inference has no model")
        expect_text(page, "#modules", "has pictures")
        ship(edge, models / "1.0.0" / "model.tflite")
        for words in ("digits:1.0.0 offered", "digits:1.0.0 proved", "on probation", "digits:1.0.0 in use"):
            expect_text(page, "#timeline", words)
        expect_text(page, "#stages", "publish")
        loaded_frames(page, 5)
        page.wait_for_selector("#recent img.thumb")
        expect_text(page, "#accuracy", "of")
        ship(edge, models / "1.1.0" / "model.tflite")
        expect_text(page, "#models li", "digits:1.1.0 in use")
        page.wait_for_function("() => document.querySelectorAll('#models li').length === 2")
        page.wait_for_function("() => document.querySelectorAll('#recent li').length === 24")
        os.kill(shown.pid("dashboard"), signal.SIGKILL)
        expect_text(page, "#link", "No connection to the dashboard module")
        expect_text(page, "#link", "the dashboard module was restarted at")
        expect_text(page, "#timeline", "digits:1.1.0")
        loaded_frames(page, 8)
        edge.simulator.stop_modules()
        expect_text(page, "#link", "No connection to the dashboard module")
        upstream = edge.upstream()
    assert DEVICE in upstream
    assert "twinship.prediction.v1" in upstream


def test_a_refused_model_is_on_the_time_line_with_its_reason(
    browser: Browser, tmp_path: Path, models: Path
) -> None:
    """What ran before goes on; the note says what to do."""
    with shown_edge(tmp_path, models) as shown:
        page = opened(browser, shown.url)
        ship(shown.edge, models / "1.0.0" / "model.tflite")
        expect_text(page, "#timeline", "digits:1.0.0 in use")
        data = bytearray((models / "1.1.0" / "model.tflite").read_bytes())
        good = sign(models / "1.1.0" / "model.tflite", keys.signing_key(shown.edge.keys))
        data[1000] ^= 0x40
        patch(shown.edge, "inference", {"model": None})
        patch(shown.edge, "inference", {"model": type(good)(good.ref, bytes(data)).section()})
        expect_text(page, "#timeline li", "digits:1.1.0 refused")
        expect_text(page, "#timeline li .reason", "wrong-digest")
        expect_text(page, "#notes", "What ran before goes on.")
        expect_text(page, "#modules", "digits:1.0.0")


def previews_sent(shown: Shown) -> int:
    """How many previews edgeHub has received from the camera, by its own metrics."""
    endpoints = json.loads((shown.edge.simulator.endpoints.upstream.parent / "endpoints.json").read_text())
    page = urlopen(endpoints["metrics"][DEVICE]["edgeHub"], timeout=10).read().decode()
    labels = {"id": f"{DEVICE}/camera_sim", "route_output": "preview"}
    samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
    return int(
        sum(
            each.value
            for each in samples
            if each.name.startswith("edgehub_messages_received") and labels.items() <= each.labels.items()
        )
    )


def test_previews_begin_with_a_page_and_end_after_it(browser: Browser, tmp_path: Path, models: Path) -> None:
    """The lease: none before the page is open, and none once it has ended after the page closed."""
    with shown_edge(tmp_path, models) as shown:
        wait_until(
            lambda: reported(shown.edge, "camera_sim").get("cameraStatus", {}).get("sent", 0) > 20, "frames"
        )
        assert previews_sent(shown) == 0
        page = opened(browser, shown.url)
        loaded_frames(page, 5)
        page.context.close()
        wait_until(lambda: stands_still(shown), "the end of the lease")
        before = reported(shown.edge, "camera_sim")["cameraStatus"]["sent"]
        count = previews_sent(shown)
        wait_until(
            lambda: reported(shown.edge, "camera_sim")["cameraStatus"]["sent"] > before + 20, "more frames"
        )
        assert previews_sent(shown) == count


def test_the_page_says_why_there_is_no_picture_and_outlives_the_hub(
    browser: Browser, tmp_path: Path, models: Path
) -> None:
    """The camera's twin forbids previews; then the hub is killed, comes back, and so do the pictures."""
    with shown_edge(tmp_path, models) as shown:
        patch(shown.edge, "camera_sim", {"camera": {"preview": {"allow": False}}})
        page = opened(browser, shown.url)
        expect_text(page, "#frame", "preview.allow is false")
        assert previews_sent(shown) == 0
        patch(shown.edge, "camera_sim", {"camera": {"preview": {"allow": True}}})
        loaded_frames(page, 3)
        shown.edge.simulator.kill_hub()
        expect_text(page, "#link", "No connection to edgeHub")
        shown.edge.simulator.wait_hub()
        expect_text(page, "#link", "Live")
        loaded_frames(page, 8)


#: A change as the page asks for it, with no button; returns the status of the answer.
ASK = """async (name) => {
    const headers = {"Content-Type": "application/json", "X-Twinship-Control": "1"};
    return (await fetch(`/control/${name}`, {method: "POST", headers, body: "{}"})).status;
}"""


def sent(shown: Shown) -> int:
    """How many frames the camera has sent, by its twin."""
    count = reported(shown.edge, "camera_sim").get("cameraStatus", {}).get("sent", 0)
    assert isinstance(count, int)
    return count


def test_the_page_controls_camera_and_model_while_the_twin_allows_it(
    browser: Browser, tmp_path: Path, models: Path
) -> None:
    """Real modules do it by direct methods; before and after the permission they do nothing."""
    with shown_edge(tmp_path, models) as shown:
        page = opened(browser, shown.url)
        ship(shown.edge, models / "1.0.0" / "model.tflite")
        expect_text(page, "#timeline", "digits:1.0.0 in use")
        assert not page.is_visible("#control-section")
        assert page.evaluate(ASK, "pause") == 403
        loaded_frames(page, 3)  # counter-proof: the camera goes on
        patch(shown.edge, "dashboard", {"dashboard": {"control": True}})
        page.wait_for_selector("#control-section", state="visible")
        page.click("[data-change=pause]")
        expect_text(page, "#control-result", "The camera is paused.")
        expect_text(page, "#notes", "No answer has arrived for")
        wait_until(lambda: sent_stands_still(shown), "the camera to stand still")
        before = sent(shown)
        page.click("[data-change=resume]")
        expect_text(page, "#control-result", "The camera sends frames again.")
        wait_until(lambda: sent(shown) > before + 20, "more frames")
        page.fill("#fps", "4")
        page.keyboard.press("Enter")
        expect_text(page, "#control-result", "The camera sends 4 frames a second.")
        ship(shown.edge, models / "1.1.0" / "model.tflite")
        expect_text(page, "#timeline", "digits:1.1.0 in use")
        page.once("dialog", lambda dialog: dialog.accept())
        page.click("[data-change=rollback]")
        expect_text(page, "#control-result", "digits:1.0.0")  # on a busy machine: set to it, no frame seen
        expect_text(page, "#modules", "digits:1.0.0")
        patch(shown.edge, "dashboard", {"dashboard": {"control": False}})
        page.wait_for_selector("#control-section", state="hidden")
        assert page.evaluate(ASK, "pause") == 403
        wait_until(
            lambda: reported(shown.edge, "dashboard")["dashboard"]["value"] == {"control": False},
            "the answer in the twin",
        )


def sent_stands_still(shown: Shown) -> bool:
    """Whether the camera reports no other frame for longer than it waits between two reports."""
    before = sent(shown)
    time.sleep(3)
    return sent(shown) == before


def stands_still(shown: Shown) -> bool:
    """Whether no preview comes for two seconds, in which a lease gives ten."""
    before = previews_sent(shown)
    time.sleep(2)
    return previews_sent(shown) == before


#: How JPEG and PNG begin, as they are and in base64.
MAGICS = (b"\xff\xd8\xff", b"\x89PNG", b"/9j/", b"iVBORw0K")


def pictures_in(upstream: bytes) -> list[str]:
    """What of a picture is in the file of everything that went upstream: bytes, and outputs of the camera."""
    found = [repr(magic) for magic in MAGICS if magic in upstream]
    for line in upstream.splitlines():
        message = json.loads(line)
        if message["SystemProperties"].get("connectionModuleId") == "camera_sim":
            found.append("camera_sim")
        body = message["Body"]
        if isinstance(body, str) and any(magic in base64.b64decode(body) for magic in MAGICS[:2]):
            found.append("body")
    return sorted(set(found))


def demo_manifest(folder: Path, port: int, *, planted: bool) -> Path:
    """The dashboard's manifest with another port; `planted`: and with a route of previews to the cloud."""
    manifest = json.loads(TEMPLATE.read_text())
    agent, hub = (
        manifest["modulesContent"][name]["properties.desired"] for name in ("$edgeAgent", "$edgeHub")
    )
    agent["modules"]["dashboard"]["env"]["DASHBOARD_LISTEN"] = {"value": f"127.0.0.1:{port}"}
    if planted:
        hub["routes"]["planted"] = "FROM /messages/modules/camera_sim/outputs/preview INTO $upstream"
    (folder / "modules").symlink_to(ROOT / "modules")
    template = folder / "shown.template.json"
    template.write_text(json.dumps(manifest))
    return template


@pytest.mark.parametrize("planted", [False, True], ids=["shipped", "planted-route"])
def test_no_byte_of_a_picture_goes_upstream(
    browser: Browser, twinship: Command, models: Path, planted: bool
) -> None:
    """Every byte that a whole demo sends upstream with the page open is read. A planted route is found."""
    port = free_port()
    template = demo_manifest(twinship.folder, port, planted=planted)
    demo = twinship.start(*demo_arguments(models, 200, "--template", str(template)))
    output = read_until(demo, f"dashboard: http://127.0.0.1:{port}/")
    wait_served(port)
    page = opened(browser, f"http://127.0.0.1:{port}/")
    loaded_frames(page, 20)
    expect_text(page, "#models", "digits:1.1.0")
    expect_text(page, "#link", "No connection to the dashboard module")  # the page was open to the end
    output += demo.communicate(timeout=PATIENCE_S)[0]
    upstream = (twinship.folder / "build" / "demo" / "upstream.jsonl").read_bytes()
    assert upstream.count(b"twinship.prediction.v1") == 200, output
    assert ("camera_sim" in pictures_in(upstream)) is planted
    assert (pictures_in(upstream) != []) is planted
    assert planted or demo.returncode == 0, output


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_served(port: int) -> None:
    """Wait until the module listens."""

    def accepts() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(accepts, "the dashboard's port")
