"""Which addresses outgoing calls may reach: no private, loopback or link-local ones unless the site has listed them.

The check is made on the addresses that a name resolves to, at the moment of connecting, and the connection goes to exactly the
address that was checked (a name that answers differently a second time gains nothing). Specification: interfaces.md
(FHIR_SERVER_ENDPOINT_ALLOW), conformance.md K23.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")))
"""NAT64 (RFC 6052, RFC 8215) and SIIT: an IPv4 address stands in the last 32 bits."""
_COMPATIBLE = ipaddress.ip_network("::/96")
_NEVER = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "168.63.129.16/32", "3fff::/20", "5f00::/16")))
"""Not private by name, and nobody's public server: 6to4 relays, the inner address of a cloud, documentation, segment routing."""
_ISATAP = (0x00005EFE, 0x02005EFE)


class EndpointRefused(Exception):
    """An address that outgoing calls may not reach; the text says which and why."""


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64, SIIT, ISATAP), else the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    embedded = any(address in network for network in _EMBEDDING) or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if embedded or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """`hosts` and `networks` are allowed whatever they are; `loopback` allows this machine (sign-in off, not in production)."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    loopback: bool = False

    @classmethod
    def of(cls, allow: str, *, loopback: bool) -> EndpointPolicy:
        """From the setting: comma-separated host names, addresses or networks. Raises ValueError for a wrong network."""
        hosts, networks = set(), []
        for item in filter(None, (part.strip().lower() for part in allow.split(","))):
            try:
                networks.append(ipaddress.ip_network(item, strict=False))
            except ValueError:
                if "/" in item:
                    raise ValueError(f"'{item}' in FHIR_SERVER_ENDPOINT_ALLOW is neither a host name nor a network") from None
                hosts.add(item)
        return cls(frozenset(hosts), tuple(networks), loopback)

    def allows(self, address: Address) -> bool:
        """Whether calls may go to this address."""
        real = _unwrapped(address)
        if any(candidate in network for candidate in {address, real} for network in self.networks if candidate.version == network.version):
            return True
        if real.is_loopback:
            return self.loopback
        if any(real in network for network in _NEVER if network.version == real.version):
            return False
        return real.is_global and not real.is_multicast and not (isinstance(real, ipaddress.IPv6Address) and real.is_site_local)

    def choose(self, host: str, addresses: Iterable[str]) -> list[str]:
        """The addresses of `host` that may be reached. Raises EndpointRefused when one of them may not: a mixed answer is an attempt."""
        found = list(addresses)
        if host.lower().rstrip(".") in self.hosts:
            return found
        for text in found:
            if not self.allows(ipaddress.ip_address(text.partition("%")[0])):
                raise EndpointRefused(f"{host} leads to an address that outgoing calls may not reach (FHIR_SERVER_ENDPOINT_ALLOW)")
        return found

    def complaint(self, url: str) -> str | None:
        """What is wrong with an endpoint as it is written, without asking the network; None when nothing is."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as fault:
            return f"is not a URL: {fault}"
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "must be an absolute http or https URL"
        if any(ord(letter) <= 32 or ord(letter) > 126 for letter in url):
            return "contains blanks, control characters or letters that a URL has to percent-encode"
        if parts.username or parts.password:
            return "must not carry a user name or password (use channel.header)"
        if parts.fragment:
            return "must not have a fragment"
        if port == 0:
            return "has the impossible port 0"
        return self._literal(parts.hostname)

    def _literal(self, host: str) -> str | None:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host.lower().rstrip(".") in ("localhost",) and not self.loopback and "localhost" not in self.hosts:
                return "names this machine, which outgoing calls may not reach (FHIR_SERVER_ENDPOINT_ALLOW)"
            return None
        if str(address) not in self.hosts and not self.allows(address):
            return f"names the address {host}, which outgoing calls may not reach (FHIR_SERVER_ENDPOINT_ALLOW)"
        return None
