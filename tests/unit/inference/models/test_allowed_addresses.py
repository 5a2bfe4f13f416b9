"""The addresses that a download may not connect to."""

import pytest

from inference.models.allowed_addresses import KINDS, why_forbidden

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.31.0.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("2002:a9fe:0101::1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("::ffff:169.254.169.254", "metadata"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
    ],
)
def test_a_forbidden_address_has_its_kind(address: str, kind: str) -> None:
    """Also in other notations of the same address."""
    assert why_forbidden(address, NONE) == kind


@pytest.mark.parametrize("address", ["20.38.98.100", "10.1.2.3", "192.168.0.7", "fd12::1", "2603:1030::1"])
def test_public_and_private_networks_are_allowed(address: str) -> None:
    """Factories keep files on their own network."""
    assert why_forbidden(address, NONE) == ""


def test_each_name_allows_its_own_kind() -> None:
    """No name allows metadata addresses."""
    assert why_forbidden("127.0.0.1", frozenset({"loopback"})) == ""
    assert why_forbidden("169.254.1.1", frozenset({"loopback"})) == "link-local"
    assert why_forbidden("169.254.1.1", frozenset({"link-local"})) == ""
    assert why_forbidden("169.254.169.254", frozenset(KINDS)) == "metadata"
