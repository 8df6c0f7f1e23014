"""Which hosts this service may connect to when others name them.

Whoever may import images can name any host, and a registry can redirect to any. So only public addresses are
connected to: else a user could reach what the network hides from him, cloud metadata services above all. An
operator may allow hosts by name.

Names are judged by what they resolve to, in the one look-up whose result is then connected to. So neither
odd spellings of an address nor a name that resolves differently the next time slips through.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from imagestream_es.registry.errors import Blocked, Unreachable

# Written out, since what the standard library calls public differs between its versions.
_NOT_PUBLIC_V4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # looks public, but is what Azure's machines talk to their host through
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_PUBLIC_V6 = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether this IP address belongs to the public internet; False for what is none."""
    try:
        return _is_public(ip_address(address))
    except ValueError:
        return False


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    if ip in _NAT64:
        return _is_public(IPv4Address(int(ip) & 0xFFFFFFFF))
    # An IPv4 address in IPv6 clothes (::ffff:…) is not in there either.
    return ip in _PUBLIC_V6 and not any(ip in network for network in _NOT_PUBLIC_V6)


def normal_host(host: str) -> str:
    """A host as it is compared: lower case, without brackets and final dot."""
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")


class Addresses:
    """The look-up of hosts; `allowed` are those that may have any address, on every port."""

    def __init__(self, allowed: Iterable[str] = (), look_up: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._allowed = frozenset(map(normal_host, allowed))
        self._look_up = look_up

    def of(self, host: str, port: int) -> list[str]:
        """The IP addresses to connect to, best first.

        Raises Blocked if even one of them is not public, Unreachable if there is none.
        """
        try:
            found = self._look_up(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError):  # ValueError: no label of a name may be empty or too long
            raise Unreachable(f"the host name {host} cannot be resolved") from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses:
            raise Unreachable(f"the host name {host} cannot be resolved")
        if normal_host(host) not in self._allowed and not all(map(is_public, addresses)):
            raise Blocked(host)
        return addresses
