"""Which network addresses may be called on a user's behalf.

A webhook's URL is the user's, and the request is ours: it must not reach what only we can reach,
such as a cloud's metadata service or a database that trusts its network.
"""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that was ever handed out to be reached by everybody. What `ipaddress` calls global is
more: old site-local addresses, and forms that hold an IPv4 address, which some hosts translate."""
_NOT_ROUTED = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
"""For protocols, and for relays that are gone."""


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read `10.1.0.0/16` or `127.0.0.1`; raises ValueError that names the wrong one."""
    return tuple(ip_network(text, strict=False) for text in texts)


def parse_address(text: str) -> Address | None:
    """The address that `text` is; None for a name."""
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None


def may_be_called(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """Whether it is public, or one of the networks `allowed`.

    An IPv6 address that leads to an IPv4 one is judged by that.
    """
    inner = _inner(address)
    if inner is not None:
        return may_be_called(inner, allowed)
    if any(address in network for network in allowed):
        return True
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _NOT_ROUTED):
        return False
    return address.is_global and not address.is_multicast


def _inner(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
