"""From which addresses a model may be fetched: a device must not be sent to knock on its own inner doors.

Pure. What is judged is the address that is connected to and not the name, which may resolve to another one
each time. Private networks are allowed: that is where a factory keeps its files.
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

#: What may be allowed by name (MODEL_SOURCE_ALLOW), and which addresses it means.
KINDS: Mapping[str, Callable[[Address], bool]] = {
    "loopback": lambda address: address.is_loopback,
    "link-local": lambda address: address.is_link_local,
}
# Where clouds tell a machine who it is, and hand it tokens: never a place for models.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # Azure, AWS, Google
        "168.63.129.16",  # Azure's WireServer
        "100.100.100.200",  # Alibaba
        "fd00:ec2::254",  # AWS over IPv6
    )
)


def why_forbidden(text: str, allowed: frozenset[str]) -> str:
    """Which kind of address it is that no model comes from, or "" for one that will do."""
    address = _inner(ip_address(text.partition("%")[0]))
    if address in _METADATA:
        return "metadata"
    for kind, means in KINDS.items():
        if means(address):
            return "" if kind in allowed else kind
    # is_reserved would cover 64:ff9b::/96 too, by which IPv6-only networks reach the IPv4 internet.
    return "unspecified" if address.is_unspecified else "multicast" if address.is_multicast else ""


def _inner(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one: mapped, 6to4, NAT64."""
    if isinstance(address, IPv4Address):
        return address
    if int(address) >> 32 == int(IPv6Address("64:ff9b::")) >> 32:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
