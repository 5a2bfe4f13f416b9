"""The shell: files, and the answers of a hub."""

import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from tests.unit.twinship.fleet.doctor.project_files import ROOT, env_text
from twinship.fleet import service
from twinship.fleet.connection import Connection
from twinship.fleet.doctor import HubAnswer, ask_hub, read_project
from twinship.fleet.doctor.reading import CannotExamine
from twinship.fleet.service import HubRefused, NotFound, PreconditionFailed, ServiceHub

HUB = Connection("hub.azure-devices.net", "iothubowner", "c2VjcmV0")
NOW = 1_800_000_000.0


def test_everything_around_a_manifest_is_read(tmp_path: Path) -> None:
    """The env file with its permissions, the module.json files, the model and the pictures."""
    env = tmp_path / "prod.env"
    env.write_text(env_text(CAMERA_FOLDER="/a"))
    env.chmod(0o640)
    (tmp_path / "model.tflite").write_bytes(b"model")
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (400, 300)).save(folder / "a.png")  # 360,000 bytes as raw pixels
    (folder / "b.png").write_bytes(bytes(300_000))
    (folder / "notes.txt").write_text("no picture")
    project = read_project(
        ROOT / "deployment.template.json",
        env,
        {"CAMERA_FOLDER": "/b"},
        model=tmp_path / "model.tflite",
        pictures=folder,
    )
    assert project.env is not None
    assert project.env.shared
    assert project.environment["CAMERA_FOLDER"] == "/b"
    assert {"inference", "camera_sim"} <= project.modules.keys()
    assert project.model == (str(tmp_path / "model.tflite"), b"model")
    assert project.pictures is not None
    assert project.pictures.count == 2
    assert project.pictures.too_large == {"raw": ("a.png", 360_000), "as_is": ("b.png", 300_000)}
    env.chmod(0o600)
    again = read_project(ROOT / "deployment.template.json", env, {})
    assert again.env is not None
    assert not again.env.shared


def test_a_missing_env_file_is_no_error(tmp_path: Path) -> None:
    """The variables of the environment are enough; a manifest that is missing is named."""
    project = read_project(ROOT / "deployment.template.json", tmp_path / ".env", {"X": "1"})
    assert project.env is None
    assert project.environment == {"X": "1"}
    with pytest.raises(CannotExamine, match=r"none\.json cannot be read"):
        read_project(tmp_path / "none.json", tmp_path / ".env", {})


class Answering:
    """A session of requests that answers with a Date header, or raises."""

    def __init__(self, date: str | None, error: Exception | None = None) -> None:
        self.date, self.error = date, error
        self.trust_env = True

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def get(self, url: str, **_options: Any) -> Any:
        assert url == "https://hub.azure-devices.net/"
        if self.error:
            raise self.error
        response = requests.Response()
        response.headers.update({"Date": self.date} if self.date else {})
        return response


def date(seconds: float) -> str:
    """A Date header."""
    return format_datetime(datetime.datetime.fromtimestamp(seconds, datetime.UTC), usegmt=True)


def asked(monkeypatch: pytest.MonkeyPatch, session: Answering, error: Exception | None) -> HubAnswer:
    """The answer of a hub that ends the request for modules with this error."""

    def modules(_hub: object, _device: str) -> tuple[str, ...]:
        if error:
            raise error
        return ("$edgeAgent",)

    def refuse(*_: object) -> None:
        raise PreconditionFailed("someone else changed it", 412)

    monkeypatch.setattr(requests, "Session", lambda: session)
    monkeypatch.setattr(ServiceHub, "modules", modules)
    monkeypatch.setattr(ServiceHub, "patch_desired", refuse)
    return ask_hub(HUB, "twinship", now=lambda: NOW)


def test_a_good_hub_has_only_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write that must fail with 412 shows that the policy may write."""
    assert asked(monkeypatch, Answering(date(NOW - 2)), None) == HubAnswer(ahead_s=2.0)
    assert asked(monkeypatch, Answering("yesterday"), None) == HubAnswer()
    assert asked(monkeypatch, Answering(None), None) == HubAnswer()


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (HubRefused("401", 401), "TW503"),
        (HubRefused("403", 403), "TW504"),
        (NotFound("404", 404), "TW505"),
        (service.HubUnavailable("busy"), "TW501"),
    ],
)
def test_each_refusal_has_its_rule(monkeypatch: pytest.MonkeyPatch, error: Exception, rule: str) -> None:
    """A wrong clock is reported too, because it makes the hub refuse a good key."""
    answer = asked(monkeypatch, Answering(date(NOW - 900)), error)
    assert (answer.rule, answer.ahead_s) == (rule, 900.0)


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (requests.ConnectionError("NameResolutionError"), "TW501"),
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), "TW506"),
    ],
)
def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, error: Exception, rule: str) -> None:
    """The first request already tells the network and the certificate apart."""
    answer = asked(monkeypatch, Answering(None, error), None)
    assert (answer.rule, answer.ahead_s) == (rule, None)
