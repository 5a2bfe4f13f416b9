"""Shared access signatures: compared with the SDK's own code, and all invalid tokens."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote, unquote

import pytest
from azure.iot.device.common.auth.sastoken import RenewableSasToken
from azure.iot.device.common.auth.signing_mechanism import SymmetricKeySigningMechanism
from azure.iot.hub.sastoken import SasToken
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.sas import SasRefused, digest, parse, sign, verify, without_port

# The SDKs have no annotations.
device_token: Any = RenewableSasToken
signing_mechanism: Any = SymmetricKeySigningMechanism

PRIMARY = base64.b64encode(b"primary" * 9).decode()
SECONDARY = base64.b64encode(b"secondary" * 7).decode()
MODULE = "127.0.0.2/devices/d/modules/m"
NOW = 1_700_000_000.0
LATER = int(NOW) + 60

resources = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
keys = st.binary(min_size=1, max_size=64).map(lambda raw: base64.b64encode(raw).decode())


def opens(token: str, resource: str = MODULE, now: float = NOW) -> str:
    """Verify against one resource with both keys."""
    return verify(token, allowed=[(resource, [PRIMARY, SECONDARY])], now=now)


@given(keys, resources, st.integers(int(NOW) + 1, 10**11), st.none() | st.text("abcXYZ-+/= ", min_size=1))
def test_a_signed_token_verifies(key: str, resource: str, expiry: int, policy: str | None) -> None:
    """This holds for any resource, key and policy name."""
    token = sign(key, resource, expiry, policy)
    assert verify(token, allowed=[(resource, [key])], now=NOW) == without_port(resource)
    assert (parse(token).resource, parse(token).expiry, parse(token).policy) == (resource, expiry, policy)


@pytest.mark.parametrize(
    "resource", [MODULE, "hub:8443/devices/d 1/modules/$edgeHub", "h/devices/ü+%/modules/m"]
)
def test_the_device_sdk_makes_the_same_token(resource: str) -> None:
    """It equals the password of azure-iot-device (statement 4)."""
    theirs = device_token(resource, signing_mechanism(PRIMARY), ttl=3600)
    assert sign(PRIMARY, resource, theirs.expiry_time) == str(theirs)
    assert verify(str(theirs), allowed=[(resource, [PRIMARY])], now=time.time())


def test_the_service_sdks_token_verifies() -> None:
    """The token of azure-iot-hub contains port and policy (statement 85)."""
    theirs = str(SasToken("127.0.0.1:8443", PRIMARY, "iothubowner"))
    assert "%3A8443" in theirs
    assert verify(theirs, allowed=[("127.0.0.1", [PRIMARY])], now=time.time()) == "127.0.0.1"
    assert parse(theirs).policy == "iothubowner"


def test_the_workload_digest_equals_the_sdks_signature() -> None:
    """The workload API signs with the module's own key (ref 1.4)."""
    theirs = signing_mechanism(PRIMARY).sign("a%2Fb\n17")
    assert base64.b64encode(digest(PRIMARY, b"a%2Fb\n17")).decode() == theirs


@pytest.mark.parametrize("key", [PRIMARY, SECONDARY])
def test_either_key_verifies(key: str) -> None:
    """The primary and the secondary key have the same rights (statement 7)."""
    assert opens(sign(key, MODULE, LATER)) == MODULE


def test_a_device_token_is_valid_for_its_module() -> None:
    """If the device is allowed too, its token suffices (statement 8); the result names the resource."""
    device = "127.0.0.2/devices/d"
    allowed = [(MODULE, [SECONDARY]), (device, [PRIMARY])]
    assert verify(sign(PRIMARY, device, LATER), allowed=allowed, now=NOW) == device


def test_a_resource_verifies_only_with_its_own_keys() -> None:
    """A token for the module with the device's key is invalid, although the device is allowed."""
    allowed = [(MODULE, [SECONDARY]), ("127.0.0.2/devices/d", [PRIMARY])]
    with pytest.raises(SasRefused, match="not signed"):
        verify(sign(PRIMARY, MODULE, LATER), allowed=allowed, now=NOW)


@pytest.mark.parametrize("written", ["127.0.0.2:8443/devices/d/modules/m", "127.0.0.2/DEVICES/D/modules/M"])
def test_port_and_letter_case_do_not_matter(written: str) -> None:
    """Comparison ignores port and case (ref 4.2, statement 14); the result is spelt as allowed."""
    assert opens(sign(PRIMARY, written, LATER)) == MODULE


def test_percent_encoding_may_be_in_lower_case() -> None:
    """The signature covers the text as sent, so %3a and %3A both verify (statement 85)."""
    encoded = quote("hub:8443", safe="").lower()
    signature = base64.b64encode(digest(PRIMARY, f"{encoded}\n{LATER}".encode())).decode()
    token = f"SharedAccessSignature sr={encoded}&sig={quote(signature, safe='')}&se={LATER}"
    assert verify(token, allowed=[("hub", [PRIMARY])], now=NOW) == "hub"


def test_the_order_of_fields_is_free() -> None:
    """sr, sig and se may come in any order."""
    scheme, fields = sign(PRIMARY, MODULE, LATER).split(" ")
    assert opens(f"{scheme} {'&'.join(reversed(fields.split('&')))}") == MODULE


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (sign(PRIMARY, MODULE, int(NOW)), "expired"),
        (sign(base64.b64encode(b"other").decode(), MODULE, LATER), "not signed"),
        (sign(PRIMARY, MODULE + "2", LATER), "not the requested resource"),
        (sign(PRIMARY, "127.0.0.2/devices/d", LATER), "not the requested resource"),
        (sign(PRIMARY, MODULE, LATER).replace(str(LATER), str(LATER + 1)), "not signed"),
        (sign(PRIMARY, MODULE, LATER).replace("sig=", "sig=AAAA"), "not signed"),
        (sign(PRIMARY, MODULE, LATER).replace("sig=", "sig=%C3%BC"), "not base64"),
        (sign(PRIMARY, MODULE, LATER) + "&se=99999999999", "malformed"),
        (sign(PRIMARY, MODULE, LATER) + "&x=1", "malformed"),
        (sign(PRIMARY, MODULE, LATER).rpartition("&")[0], "lacks se"),
        (f"SharedAccessSignature sr=a&sig=AAAA&se={LATER}.5", "time in seconds"),
        ("SharedAccessSignature sr=&sig=&se=", "malformed"),
        ("Bearer x", "not a SharedAccessSignature"),
        ("", "not a SharedAccessSignature"),
        ("SharedAccessSignature sr=" + "a" * 5000, "longer than"),
    ],
)
def test_an_invalid_token_is_refused(token: str, reason: str) -> None:
    """Each defect has its own reason."""
    with pytest.raises(SasRefused, match=reason):
        opens(token)


@given(st.text(st.characters()))  # lone surrogates too: what an HTTP header's bad bytes become
def test_random_text_is_refused(text: str) -> None:
    """Any text raises SasRefused and nothing else."""
    for token in (
        text,
        "SharedAccessSignature " + text,
        "SharedAccessSignature sr=a&se=9999999999&sig=" + text,
    ):
        with pytest.raises(SasRefused):
            opens(token)


@pytest.mark.parametrize("key", ["", "not base64!", "ü"])
def test_a_bad_key_neither_signs_nor_verifies(key: str) -> None:
    """With an empty key anybody could sign."""
    with pytest.raises(ValueError, match="shared access key"):
        sign(key, MODULE, LATER)


def test_no_secret_in_repr_or_reason() -> None:
    """The parsed token and the error do not contain the signature."""
    token = sign(PRIMARY, MODULE, int(NOW))
    signature = unquote(token.split("sig=")[1].split("&")[0])
    with pytest.raises(SasRefused) as refused:
        opens(token)
    for text in (repr(parse(token)), str(refused.value)):
        assert signature not in text
        assert str(base64.b64decode(signature)) not in text


@pytest.mark.parametrize(
    ("resource", "bare"),
    [("h:1/a", "h/a"), ("h/a:1", "h/a:1"), ("[::1]:8443/a", "[::1]/a"), ("h:x/a", "h:x/a"), ("h", "h")],
)
def test_only_the_hosts_port_is_stripped(resource: str, bare: str) -> None:
    """A colon in a device id stays."""
    assert without_port(resource) == bare
