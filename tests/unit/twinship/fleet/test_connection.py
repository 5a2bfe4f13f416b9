"""Finding the hub in the settings; no error shows a key."""

import os
from pathlib import Path

import pytest

from twinship.fleet import connection
from twinship.fleet.connection import NotConfigured
from twinship.simulator import lint
from twinship.simulator.manifest import manifest

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
STRING = f"HostName=hub.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"
EXAMPLE = Path(__file__).parents[4] / ".env.example"


def env_file(tmp_path: Path, text: str) -> Path:
    """Write a file `.env` with this text."""
    path = tmp_path / ".env"
    path.write_text(text)
    return path


def test_the_environment_takes_precedence(tmp_path: Path) -> None:
    """The file is read only if the environment names no hub."""
    path = env_file(tmp_path, STRING.replace("hub.", "other.").join(["IOTHUB_CONNECTION_STRING=", "\n"]))
    found = connection.find({"IOTHUB_CONNECTION_STRING": STRING}, path)
    assert (found.host, found.policy, found.source) == (
        "hub.azure-devices.net",
        "iothubowner",
        "the environment",
    )
    assert connection.find({}, path).host == "other.azure-devices.net"


def test_the_ca_bundle_comes_from_the_place_of_the_connection_string(tmp_path: Path) -> None:
    """If the file names both, REQUESTS_CA_BUNDLE of the shell is ignored: it would break the simulator's."""
    ca, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    ca.touch()
    other.touch()
    path = env_file(tmp_path, f"IOTHUB_CONNECTION_STRING={STRING}\nREQUESTS_CA_BUNDLE={ca}\n")
    assert connection.find({"REQUESTS_CA_BUNDLE": str(other)}, path).ca_bundle == ca


def test_no_connection_string_names_both_places(tmp_path: Path) -> None:
    """The error names the places that were searched, and the cure."""
    with pytest.raises(
        NotConfigured, match=r"neither in the environment nor in .*\.env; cure: copy \.env\.example"
    ):
        connection.find({}, tmp_path / ".env")


def test_the_example_file_is_refused() -> None:
    """A copy of .env.example that nobody filled in is refused; the error names the variable."""
    with pytest.raises(NotConfigured, match=r"IOTHUB_CONNECTION_STRING in .* placeholder <hub>"):
        connection.find({}, EXAMPLE)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("HostName=h", "has no SharedAccessKeyName and no SharedAccessKey"),
        (STRING.replace("HostName", "Host"), "has no HostName"),
        (f"HostName=h;DeviceId=d;SharedAccessKey={KEY}", "is a device's"),
        (STRING.replace("hub.", "https://hub."), "leave out https://"),
        (STRING[:-1] + "!", "SharedAccessKey is not base64"),
        (STRING[:-2], "SharedAccessKey is not base64"),
        ("nonsense", "has no HostName"),
        (STRING.replace("hub.azure", "<your hub>.azure"), "placeholder <your hub>"),
    ],
)
def test_a_bad_connection_string_is_refused_without_showing_the_key(text: str, complaint: str) -> None:
    """The error is one line with the part and the cure; the key is in neither the message nor the cause."""
    with pytest.raises(NotConfigured, match=complaint) as caught:
        connection.parse(text, None, ".env")
    line = str(caught.value)
    assert "cure:" in line
    assert "\n" not in line
    assert KEY[:10] not in line
    assert caught.value.__cause__ is None


def test_spaces_and_a_final_semicolon_are_ignored() -> None:
    """Copying and pasting may add them."""
    assert connection.parse(f"  {STRING.replace(';', ' ; ')};\n", None, "x").key == KEY


def test_no_key_in_a_repr() -> None:
    """A Connection may be logged."""
    assert KEY not in repr(connection.parse(STRING, None, "x"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.9:8443", True),
        ("localhost:8443", True),
        ("hub.azure-devices.net", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_hubs_are_recognised(host: str, loopback: bool) -> None:
    """Only these are reached without a proxy."""
    assert connection.Connection(host, "p", KEY).loopback is loopback


def test_a_missing_ca_bundle_is_named(tmp_path: Path) -> None:
    """The simulator makes a new CA at each start; an old path must not lead to a TLS error."""
    with pytest.raises(NotConfigured, match=r"REQUESTS_CA_BUNDLE in .* which does not exist"):
        connection.parse(STRING, str(tmp_path / "ca.pem"), "service.env")


def test_env_file_lines(tmp_path: Path) -> None:
    """Comments, export, quotes, spaces, and values with = and # are read as python-dotenv reads them."""
    path = env_file(
        tmp_path,
        "# c\n\nA=1\nexport B = two words \nC=\"a=b;c\"\nD='x # y'\nE=x # y\nF=\n#G=1\nnonsense\n"
        'H="k=v;w"  # mine\n',
    )
    expected = {"A": "1", "B": "two words", "C": "a=b;c", "D": "x # y", "E": "x", "F": "", "H": "k=v;w"}
    assert connection.read_env_file(path) == expected


def test_an_env_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    """Some editors write one; the first line is read too."""
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfA=1\nB=2\n")
    assert connection.read_env_file(tmp_path / ".env") == {"A": "1", "B": "2"}


def test_an_env_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A directory and a binary file each give a one-line error."""
    with pytest.raises(NotConfigured, match="cannot be read"):
        connection.read_env_file(tmp_path)
    (tmp_path / "b").write_bytes(b"A=\xff\xfe")
    with pytest.raises(NotConfigured, match="cannot be read"):
        connection.read_env_file(tmp_path / "b")


def test_an_env_file_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """Nobody writes into it, so a read would never end."""
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(NotConfigured, match="not a regular file"):
        connection.read_env_file(tmp_path / ".env")


def test_the_device_name_has_a_default(tmp_path: Path) -> None:
    """EDGE_DEVICE_ID of the environment or the file, else twinship; invalid names are refused."""
    path = env_file(tmp_path, "EDGE_DEVICE_ID=porch\n")
    assert connection.device_name({}, tmp_path / "none") == "twinship"
    assert connection.device_name({}, path) == "porch"
    assert connection.device_name({"EDGE_DEVICE_ID": "attic"}, path) == "attic"
    for bad in ("<device>", "a/b", "ä"):
        with pytest.raises(NotConfigured, match=r"EDGE_DEVICE_ID|device"):
            connection.device_name({"EDGE_DEVICE_ID": bad}, path)


def test_the_example_defines_every_variable_that_the_manifest_needs() -> None:
    """.env.example and the README's section on Azure name every variable that a deployment needs."""
    deployment = manifest.load(EXAMPLE.with_name("deployment.template.json"), {})
    needed = {*lint.undefined(deployment), "IOTHUB_CONNECTION_STRING", "EDGE_DEVICE_ID"}
    assert {"CONTAINER_REGISTRY_SERVER", "MODEL_TRUSTED_KEYS", "CAMERA_FOLDER"} <= needed
    text = EXAMPLE.read_text()
    in_comments = {name for name in needed if f"\n{name}=" not in text}
    assert in_comments == {"MODEL_TRUSTED_KEYS", "CAMERA_FOLDER"}
    to_azure = EXAMPLE.with_name("README.md").read_text().partition("## To real Azure")[2].partition("## ")[0]
    for name, expected in (
        ("MODEL_TRUSTED_KEYS", "keys show --env-file .env"),
        ("CAMERA_FOLDER", "CAMERA_FOLDER"),
    ):
        assert f"\n# {name}=" in text
        assert expected in to_azure
