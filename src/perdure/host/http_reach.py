"""Where `call_http` may go on a host that others can reach, who may have a say in its addresses.

Rule 1: judged is the address that will be connected to, never the text that stands for it.
Rule 2: what is not known to be public is not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from msgspec import Struct

from perdure.errors import ForbiddenAddressError

ALLOW_SETTING: Final = "PERDURE_CALL_HTTP_ALLOW"

WEB_PORTS: Final = frozenset({80, 443})
"""The ports at which nothing but web servers is to be expected."""

Network: TypeAlias = IPv4Network | IPv6Network

# What the library calls global, and is not: protocol assignments (a cloud's metadata among them), 6to4 relays, and the
# address at which Azure serves its virtual machines.
_RESERVED_V4: Final = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_GLOBAL_V6: Final = IPv6Network("2000::/3")  # the only part of the space from which public addresses are given out
_RESERVED_V6: Final = IPv6Network("3fff::/20")  # for documentation
_NAT64: Final = IPv6Network("64:ff9b::/96")  # stand for the IPv4 address in their last four bytes

_ENTRY: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\](?:/\d{1,3})?|[^\s:\[\]]+)(?::(?P<port>\d{1,5}))?", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)


class Target(Struct, frozen=True):
    """What the owner of a host allows beyond the public web.

    Attributes:
        host: a name, in lower case; `*` for every public address.
        network: the addresses meant, if it is no name.
        port: the only one meant; None for any.
    """

    host: str
    network: Network | None = None
    port: int | None = None


class Reach(Struct, frozen=True):
    """Where requests may go.

    Attributes:
        is_limited: to public addresses at the ports of the web, and to `targets`.
        targets: what the owner allows besides.
    """

    is_limited: bool
    targets: tuple[Target, ...] = ()

    def check(self, host: str, port: int, address: str) -> None:
        """Let an address pass for a request, or not.

        Args:
            host: as the request names it, without brackets.
            address: what is to be connected to for it.

        Raises:
            ForbiddenAddressError: requests may not go there.
        """
        if not self.is_limited:
            return
        ip, name = ipaddress.ip_address(address), host.rstrip(".").lower()
        at_port = [each for each in self.targets if each.port in (None, port)]
        if any(each.host == name if each.network is None else ip in each.network for each in at_port):
            return
        if not is_public(ip):
            raise ForbiddenAddressError(host, address)
        if port not in WEB_PORTS and not any(each.host == "*" for each in at_port):
            raise ForbiddenAddressError(host, address, port)


EVERYWHERE: Final = Reach(is_limited=False)
"""For a host that nobody else reaches: whoever can use it is on this machine already."""


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, whatever IPv6 address an IPv4 one hides in."""
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(ip.packed[-4:]) if ip in _NAT64 else None)
        if inner is None:
            return ip in _GLOBAL_V6 and ip.is_global and ip not in _RESERVED_V6
        ip = inner
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in _RESERVED_V4)


def reach_of(environ: Mapping[str, str], *, is_exposed: bool) -> tuple[Reach, list[str]]:
    """Where requests may go, from the app's settings, and what is wrong with these.

    Args:
        is_exposed: others can reach the host.
    """
    if not is_exposed:
        return EVERYWHERE, []
    targets: list[Target] = []
    mistakes: list[str] = []
    for entry in filter(None, map(str.strip, environ.get(ALLOW_SETTING, "").split(","))):
        target = _target(entry.lower())
        if target is None:
            mistakes.append(
                f"{ALLOW_SETTING} has '{entry}', which allows nothing: it is no host, network or *:port, such as "
                "inner.example, 10.1.0.0/16:8080 or *:8443"
            )
        else:
            targets.append(target)
    return Reach(is_limited=True, targets=tuple(targets)), mistakes


def _target(entry: str) -> Target | None:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        return None
    host, port = found["host"], None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port < 65536:
        return None
    if host == "*":
        return None if port is None else Target(host, port=port)
    try:
        return Target(host, ipaddress.ip_network(host.replace("[", "").replace("]", "")), port)
    except ValueError:
        return Target(host, port=port) if _NAME.fullmatch(host) and not host[-1].isdigit() else None
