"""Identities: their forms and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinship.simulator.identity import Identity

ids = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=128).filter(
    str.isprintable
)


@given(ids, st.none() | ids)
def test_parse_reads_what_str_writes(device: str, module: str | None) -> None:
    """parse() reverses str(), also with spaces and dollar signs (statement 13)."""
    identity = Identity(device, module)
    assert Identity.parse(str(identity)) == identity


@pytest.mark.parametrize("text", ["", "/", "d/", "/m", "d/m/x", "d\n", "d/\x00", "x" * 129])
def test_an_invalid_identity_is_refused(text: str) -> None:
    """A topic cannot carry an empty part, a second slash or a control character."""
    with pytest.raises(ValueError, match="not a device or module id"):
        Identity.parse(text)


def test_a_device_comes_before_its_modules() -> None:
    """Devices and modules sort together."""
    assert [str(i) for i in sorted(map(Identity.parse, ["e", "d/b", "d", "d/a"]))] == ["d", "d/a", "d/b", "e"]


def test_the_resource_of_a_token_is_the_hubs_path() -> None:
    """A token names the hub, not the gateway (ref 1.5)."""
    module = Identity("d 1", "$edgeHub")
    assert module.resource("hub:8443") == "hub:8443/devices/d 1/modules/$edgeHub"
    assert module.parent.resource("hub") == "hub/devices/d 1"
