"""Pure: addresses that the gateway never asks for what a client names: everything that is not the public internet."""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_METADATA: Final = frozenset((ipaddress.ip_address("168.63.129.16"),))
"""Public by its number, and a cloud's own: Azure's. The others' are link-local or private."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_OTHER_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6 (https://www.iana.org/assignments/ipv6-address-space)."""
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "3fff::/20", "2001:db8::/32")))
"""What Python's own table does not know in every version, or calls global."""


_CLOUDS_OWN: Final = (
    *_METADATA,
    *map(ipaddress.ip_address, ("100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")),
)
"""Where instances read their credentials, beside link-local addresses: of Azure, Alibaba, Oracle, AWS and Google."""


def is_no_clouds_own(text: str) -> bool:
    """Whether this is an address that may be asked for who runs the gateway: any but those of a cloud's own services,
    which are link-local for the most part, and those that are no host's. False for what is no address."""
    address = _reached_by(text)
    if address is None:
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified or address in _CLOUDS_OWN:
        return False
    return not (address.is_reserved and not address.is_loopback)


def is_for_policies(text: str, *, loopback: bool, plain: bool) -> bool:
    """Whether a service that a policy names may be asked at this address.

    With `loopback` this machine's own may be, too: whoever writes a policy need not be who runs the gateway, and what
    listens there trusts whoever reaches it. `plain`: without TLS; that stays in a private network, for whoever is on
    the way could read what is sent, and answer in place of the service.
    """
    address = _reached_by(text)
    if address is None or (address.is_loopback and not loopback):
        return False
    return is_no_clouds_own(text) and not (plain and is_public(text))


def _reached_by(text: str) -> Address | None:
    """Give where packets to this address end: an IPv4 address where it is one in another form. None for what is no
    address, or one of a network that nobody knows."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return address
    within = address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or address in _COMPATIBLE:
        within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if int(address) > 1 else None
    if address.scope_id is not None or address.teredo is not None or address in _OTHER_NAT64:
        return None
    return address if within is None else within


def is_public(text: str) -> bool:
    """Whether this is an address of the public internet. False for what is no address, or one with a zone."""
    try:
        address: Address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None or address in _OTHER_NAT64:
            return False
        within = address.ipv4_mapped or address.sixtofour
        if address.teredo is not None:
            return False
        if address in _NAT64:
            within = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if within is not None:
            address = within
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST and address not in _NAT64:
        return False
    if any(address in network for network in _SPECIAL if network.version == address.version):
        return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
    return address.is_global and not special and address not in _METADATA
