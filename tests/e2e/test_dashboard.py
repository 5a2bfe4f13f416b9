"""The dashboard in a browser: Debian's Chromium reads the page of the module beside the simulator."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from PIL import Image, ImageDraw
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import ROOT, Edge
from tests.e2e.test_swap import DEVICE, patch, reported, ship
from tests.e2e.waiting import PATIENCE_S, wait_until
from tests.unit.dashboard.bodies import (
    camera_event,
    detection,
    event,
    latency,
    model_event,
    prediction,
    preview_properties,
)
from tests.unit.dashboard.serving import Served, serving
from twinship.demo.page import page_address
from twinship.fleet import keys
from twinship.fleet.publish import sign
from twinship.simulator.launcher import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

CHROMIUM = shutil.which("chromium")
TEMPLATE = ROOT / "deployment.dashboard.template.json"
SHOTS = ROOT / "build" / "dashboard"
PATIENCE_MS = PATIENCE_S * 1000
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1200, "height": 900}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)"),
]

#: The texts that have too little contrast, and the controls without a name.
CHECKS = (Path(__file__).parent / "page_checks.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """The page's server without a hub."""
    with serving() as running:
        yield running


def opened(browser: Browser, url: str, **options: Any) -> Page:
    """The page in a new context; an error of a script or of the policy fails the test at its end."""
    page = browser.new_context(viewport=options.pop("viewport", DESK), **options).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    return page


def expect_text(page: Page, selector: str, text: str) -> None:
    """Wait until the element has this text in it."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


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
def shown_edge(folder: Path, models: Path, template: Path = TEMPLATE) -> Iterator[Shown]:
    """The manifest's modules with the dashboard on a free port; every answer is sent."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys.new(folder / "keys")
    settings = SimulatorSettings(
        template,
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


def loaded_frames(page: Page, count: int) -> None:
    """Wait until the page has shown so many different frames of the camera, as pictures."""
    page.wait_for_function(
        """(count) => {
             const picture = document.querySelector("#frame img");
             window.seen ??= new Set();
             if (picture?.complete && picture.naturalWidth) window.seen.add(picture.getAttribute("src"));
             return window.seen.size >= count;
           }""",
        arg=count,
    )


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("planted", [False, True], ids=["shipped", "planted-route"])
def test_no_byte_of_a_picture_goes_upstream(
    browser: Browser, tmp_path: Path, models: Path, planted: bool
) -> None:
    """Every byte that goes upstream with the page open is read. A planted route shows that this finds one."""
    template = TEMPLATE
    if planted:
        manifest = json.loads(TEMPLATE.read_text())
        routes = manifest["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]
        routes["planted"] = "FROM /messages/modules/camera_sim/outputs/preview INTO $upstream"
        (tmp_path / "modules").symlink_to(ROOT / "modules")
        template = tmp_path / "planted.json"
        template.write_text(json.dumps(manifest))
    with shown_edge(tmp_path, models, template) as shown:
        page = opened(browser, shown.url)
        ship(shown.edge, models / "1.0.0" / "model.tflite")
        loaded_frames(page, 20)
        expect_text(page, "#timeline", "digits:1.0.0 in use")
        if planted:
            shown.edge.wait_upstream(lambda text: "camera_sim" in text, "a preview upstream")
        shown.edge.simulator.stop_modules()
        upstream = shown.edge.simulator.endpoints.upstream.read_bytes()
    assert b"twinship.prediction.v1" in upstream
    assert ("camera_sim" in pictures_in(upstream)) is planted
    assert (pictures_in(upstream) != []) is planted


def wait_served(port: int) -> None:
    """Wait until the module listens."""

    def accepts() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(accepts, "the dashboard's port")


LABEL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_markup_in_a_label_is_text(browser: Browser, served: Served) -> None:
    """A label, a model's name and a truth come from twins and files of others."""
    page = opened(browser, served.url)
    dialogs: list[str] = []

    def close(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", close)
    model = {"name": LABEL, "version": LABEL, "sha256": LABEL}
    served.take(prediction(1, LABEL, truth="<b>", model=model), {"schema": LABEL})
    reason = {"code": LABEL, "message": LABEL}
    served.take(
        model_event("refused", name=LABEL, version=LABEL, sha256=LABEL, reason=reason),
        camera_event("lost", camera=LABEL, source=LABEL, reason=LABEL),
        event("drift", "drift", detector=LABEL, measure=LABEL, value=LABEL, since=LABEL),
    )
    with served.lock:
        served.state.preview_asked(LABEL)
    for place in (
        "#last",
        "#recent",
        "#models",
        "#accuracy",
        "#timeline",
        "#modules",
        "#drift",
        "#frame",
        "#notes",
    ):
        expect_text(page, place, "<img src=x onerror")
    assert page.locator("main img, main script, main b b").count() == 0
    assert dialogs == []


_SERVING = {"name": "pets", "version": "1.1.0", "sha256": "1.1.0" * 8}
#: A life of three models, and drift.
EVENTS = (
    *(
        model_event(state, at)
        for at, state in enumerate(("checking", "proving", "loading", "probation", "active"))
    ),
    model_event("checking", 60, "1.1.0"),
    model_event("active", 75, "1.1.0", active=_SERVING),
    model_event(
        "refused",
        90,
        "1.2.0",
        active=_SERVING,
        reason={"code": "wrong-answers", "message": "it answers 3 of its 10 probes wrongly"},
    ),
    camera_event("streaming"),
    event("drift", "drift", detector="cusum", measure="brightness", value=4.5, since="2026-11-28T10:00:00Z"),
)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong: the rule and the first element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:80]}" for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_can_be_read(browser: Browser, served: Served, scheme: str, width: dict[str, int]) -> None:
    """Contrast of 4.5, names, no scrolling sideways, nothing that axe-core finds. It leaves screenshots."""
    refused: list[str] = []
    page = opened(browser, "about:blank", viewport=width, color_scheme=scheme)
    page.on("console", lambda message: refused.append(message.text))
    page.on("pageerror", lambda error: refused.append(str(error)))
    page.goto(served.url)
    for seq in range(40):
        truth = "cat" if seq % 5 else "dog"
        served.take_picture(jpeg(seq), **preview_properties(seq, truth=truth))
        served.take(prediction(seq, uncertain=seq % 7 == 0, version=f"1.{seq // 30}.0"))
    served.take(*EVENTS)
    served.take(latency(), latency(dropped={"overload": 12}), {"schema": "unknown"})
    page.wait_for_function("() => document.querySelectorAll('#notes .note').length === 4")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{scheme}-{width['width']}.png", full_page=True)
    assert page.evaluate(CHECKS) == []
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width["width"]
    assert refused == []


def test_the_checks_find_grey_text_and_a_button_without_a_name(browser: Browser, served: Served) -> None:
    """Counter-proof of the test above."""
    page = opened(browser, served.url)
    page.evaluate("document.querySelector('h1').style.color = '#999'")
    page.evaluate("document.querySelector('#hold').textContent = ''")
    assert [each[:7] for each in page.evaluate(CHECKS)] == ["Twinshi", "no name"]
    assert [each.partition(":")[0] for each in violations(page)] == ["button-name", "color-contrast"]


def test_the_keyboard_is_enough(browser: Browser, served: Served) -> None:
    """Tab reaches the link to the figures, then the button; a held page stays as it is until it goes on."""
    page = opened(browser, served.url)
    expect_text(page, "#link", "Live")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_attribute("#hold", "aria-pressed") == "true"
    other = opened(browser, served.url)
    served.take(prediction(1, "walrus"))
    expect_text(other, "#last", "walrus")
    assert "walrus" not in page.inner_text("#last")
    page.keyboard.press("Enter")
    expect_text(page, "#last", "walrus")


def test_a_lost_hub_is_said(browser: Browser, served: Served) -> None:
    """In words, with what to do."""
    page = opened(browser, served.url)
    expect_text(page, "#link", "Live")
    served.connected = False
    expect_text(page, "#link", "No connection to edgeHub")
    expect_text(page, "#notes", "Check that edgeHub (or the simulator) runs.")


def test_the_token_is_asked_for_and_leaves_the_address(browser: Browser) -> None:
    """The form opens the page; the cookie keeps it open."""
    with serving("correct horse battery") as locked:
        page = opened(browser, locked.url)
        page.fill("#token", "correct horse battery")
        page.keyboard.press("Enter")
        expect_text(page, "#link", "Live")
        assert page.url == locked.url
        assert page.evaluate("document.cookie") == ""
        page.reload()
        expect_text(page, "#link", "Live")


def jpeg(seq: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A small picture, another one for each number."""
    image = Image.new("RGB", size, (40, 60, 20 * (seq % 12)))
    ImageDraw.Draw(image).ellipse(
        (size[0] // 10, size[1] // 5, size[0] * 2 // 5, size[1] * 3 // 5), fill="white"
    )
    body = io.BytesIO()
    image.save(body, "JPEG")
    return body.getvalue()


def test_the_boxes_lie_on_the_frame_that_they_belong_to(browser: Browser, served: Served) -> None:
    """In shares of the picture; a newer picture without an answer does not take them over."""
    page = opened(browser, served.url)
    served.take_picture(jpeg(1), **preview_properties(1))
    served.take(detection(1))
    loaded_frames(page, 1)
    assert page.locator("#frame rect").count() == 2
    assert page.locator("#frame .box-name").first.inner_text() == "cat 80.0 %"
    picture, drawn = (
        page.locator("#frame img").bounding_box(),
        page.locator("#frame rect").first.bounding_box(),
    )
    assert picture is not None
    assert drawn is not None
    assert (drawn["x"] - picture["x"]) / picture["width"] == pytest.approx(0.1, abs=0.01)
    assert (drawn["y"] - picture["y"]) / picture["height"] == pytest.approx(0.2, abs=0.01)
    assert drawn["width"] / picture["width"] == pytest.approx(0.3, abs=0.02)
    assert "door-0123456789abcdef-1" in (page.get_attribute("#frame img", "src") or "")


def test_each_picture_is_loaded_once_for_each_place(browser: Browser, served: Served) -> None:
    """The page is drawn again with every answer; pictures are moved, not loaded again."""
    loads: list[str] = []
    page = opened(browser, "about:blank")
    page.on("request", lambda request: loads.append(request.url) if "/picture/" in request.url else None)
    page.goto(served.url)
    for seq in range(3):
        served.take_picture(jpeg(seq), **preview_properties(seq))
        served.take(prediction(seq))
    page.wait_for_function("() => document.querySelectorAll('#recent img').length === 3")
    for seq in range(10, 16):
        served.take(prediction(seq, f"label {seq}"))
        expect_text(page, "#last", f"label {seq}")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#recent img')].every((each) => each.complete)"
    )
    assert page.locator("#recent img").count() == 3
    assert len(loads) <= 6


def test_why_there_is_no_picture_is_said(browser: Browser, served: Served) -> None:
    """The camera's words."""
    page = opened(browser, served.url)
    expect_text(page, "#frame", "No picture yet")
    with served.lock:
        served.state.preview_asked("the camera's twin forbids it: preview.allow is false")
    expect_text(page, "#frame", "preview.allow is false")
