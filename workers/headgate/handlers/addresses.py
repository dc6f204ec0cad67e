"""Which addresses may be pushed to: public ones, and those of networks that the manifest allows.

A URL comes from whoever may write a manifest, and a name's addresses from whoever owns its zone; a worker stands inside
the cluster's network, where metadata services and databases trust who can reach them. So what is checked is the very
address that is connected to, at the moment its socket is made: no second look-up, no spelling of a number and no name
server's next answer comes between the check and the connection.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK = ("127.0.0.0/8", "::1/128")
PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""Where a target that somebody started himself may be, besides on this machine."""
# What leads somewhere else than it says, or nowhere: not all are "private" to every version of the standard library.
_OFF_LIMITS: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and many clouds' insides
        "192.0.0.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "198.18.0.0/15",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible
        "64:ff9b:1::/48",  # translation to private IPv4
        "100::/64",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefusedError(OSError):
    """An address that may not be pushed to; names it and says how to allow it."""

    def __init__(self, address: str, what: str) -> None:
        # No errno: where every address of a name is refused, the connector then joins the texts.
        super().__init__(
            f"address {address} is {what} and may not be pushed to: add its network to handler.http.allowNetworks"
        )


class AllowedNetworks:
    """The rule: globally routable unicast addresses, and whatever lies in `networks` (CIDRs).

    Raises ValueError naming the member that is no network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: list[Network] = []
        for text in networks:
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                raise ValueError(f"handler.http.allowNetworks: {text!r} is no network: {error}") from error

    def check(self, address: str) -> None:
        """Returns when an address may be connected to; raises AddressRefusedError."""
        try:
            meant = _meant(ipaddress.ip_address(address))
        except ValueError:
            raise AddressRefusedError(repr(address), "no IP address as it is written") from None
        if any(meant.version == network.version and meant in network for network in self._networks):
            return
        what = _refused(meant)
        if what is not None:
            raise AddressRefusedError(address, what)

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for one of getaddrinfo's answers, as connectors ask for it; raises AddressRefusedError."""
        family, kind, protocol, _, place = info
        self.check(str(place[0]))
        return socket.socket(family, kind, protocol)


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one that is then really reached."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _refused(address: Address) -> str | None:
    """What an address is that nobody may push to unasked; None for a public one."""
    if address.is_unspecified:
        return "unspecified"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    if address.is_multicast:
        return "multicast"
    if any(address.version == network.version and address in network for network in _OFF_LIMITS):
        return "not public"
    return None if address.is_global else "private"
