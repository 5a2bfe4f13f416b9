"""Shared access signatures: ours against the SDK's own code, and everything that must not open a door."""

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
def test_what_is_signed_verifies(key: str, resource: str, expiry: int, policy: str | None) -> None:
    """Any resource, key and policy name comes back out of its own token."""
    token = sign(key, resource, expiry, policy)
    assert verify(token, allowed=[(resource, [key])], now=NOW) == without_port(resource)
    assert (parse(token).resource, parse(token).expiry, parse(token).policy) == (resource, expiry, policy)


@pytest.mark.parametrize(
    "resource", [MODULE, "hub:8443/devices/d 1/modules/$edgeHub", "h/devices/ü+%/modules/m"]
)
def test_the_device_sdk_makes_the_same_token(resource: str) -> None:
    """Letter for letter what azure-iot-device sends as its password (statement 4)."""
    theirs = device_token(resource, signing_mechanism(PRIMARY), ttl=3600)
    assert sign(PRIMARY, resource, theirs.expiry_time) == str(theirs)
    assert verify(str(theirs), allowed=[(resource, [PRIMARY])], now=time.time())


def test_the_service_sdks_token_verifies() -> None:
    """azure-iot-hub writes port and policy into its token; both are understood (statement 85)."""
    theirs = str(SasToken("127.0.0.1:8443", PRIMARY, "iothubowner"))
    assert "%3A8443" in theirs
    assert verify(theirs, allowed=[("127.0.0.1", [PRIMARY])], now=time.time()) == "127.0.0.1"
    assert parse(theirs).policy == "iothubowner"


def test_the_workload_digest_is_what_the_sdk_would_sign() -> None:
    """The workload API signs for a module exactly what the module's own key would (ref 1.4)."""
    theirs = signing_mechanism(PRIMARY).sign("a%2Fb\n17")
    assert base64.b64encode(digest(PRIMARY, b"a%2Fb\n17")).decode() == theirs


@pytest.mark.parametrize("key", [PRIMARY, SECONDARY])
def test_either_key_opens(key: str) -> None:
    """Primary and secondary key are equal (statement 7)."""
    assert opens(sign(key, MODULE, LATER)) == MODULE


def test_a_device_token_opens_for_its_module() -> None:
    """With the device allowed too, its token is enough (statement 8); the answer says which it was."""
    device = "127.0.0.2/devices/d"
    allowed = [(MODULE, [SECONDARY]), (device, [PRIMARY])]
    assert verify(sign(PRIMARY, device, LATER), allowed=allowed, now=NOW) == device


def test_a_resource_opens_only_with_its_own_keys() -> None:
    """The device's key on a token for the module is a wrong key, although the device is allowed."""
    allowed = [(MODULE, [SECONDARY]), ("127.0.0.2/devices/d", [PRIMARY])]
    with pytest.raises(SasRefused, match="not signed"):
        verify(sign(PRIMARY, MODULE, LATER), allowed=allowed, now=NOW)


@pytest.mark.parametrize("written", ["127.0.0.2:8443/devices/d/modules/m", "127.0.0.2/DEVICES/D/modules/M"])
def test_port_and_letter_case_do_not_matter(written: str) -> None:
    """Audiences are compared so (ref 4.2, statement 14); the answer is spelt as allowed."""
    assert opens(sign(PRIMARY, written, LATER)) == MODULE


def test_percent_encoding_in_lower_case_is_what_was_signed() -> None:
    """The signature covers the text as sent, so %3a and %3A both verify (statement 85)."""
    encoded = quote("hub:8443", safe="").lower()
    signature = base64.b64encode(digest(PRIMARY, f"{encoded}\n{LATER}".encode())).decode()
    token = f"SharedAccessSignature sr={encoded}&sig={quote(signature, safe='')}&se={LATER}"
    assert verify(token, allowed=[("hub", [PRIMARY])], now=NOW) == "hub"


def test_the_order_of_fields_is_free() -> None:
    """Nothing prescribes sr, sig, se in this order."""
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
def test_a_token_that_is_not_right_is_refused(token: str, reason: str) -> None:
    """Each fault is refused with its own reason."""
    with pytest.raises(SasRefused, match=reason):
        opens(token)


@given(st.text(st.characters()))  # lone surrogates too: what an HTTP header's bad bytes become
def test_no_text_is_a_token_by_chance(text: str) -> None:
    """Whatever a client sends as its password, the answer is a refusal and nothing else."""
    for token in (
        text,
        "SharedAccessSignature " + text,
        "SharedAccessSignature sr=a&se=9999999999&sig=" + text,
    ):
        with pytest.raises(SasRefused):
            opens(token)


@pytest.mark.parametrize("key", ["", "not base64!", "ü"])
def test_a_bad_key_signs_and_opens_nothing(key: str) -> None:
    """An empty key would let anybody sign."""
    with pytest.raises(ValueError, match="shared access key"):
        sign(key, MODULE, LATER)


def test_no_secret_in_repr_or_reason() -> None:
    """Neither the parsed token nor a refusal repeats the signature."""
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
