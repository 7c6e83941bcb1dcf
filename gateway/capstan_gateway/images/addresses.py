"""Pure: addresses that the gateway never asks for what a client names: everything that is not the public internet."""

import ipaddress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_METADATA: Final = frozenset((ipaddress.ip_address("168.63.129.16"),))
"""Public by its number, and a cloud's own: Azure's. The others' are link-local or private."""
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_OTHER_NAT64: Final = ipaddress.ip_network("64:ff9b:1::/48")
_UNICAST: Final = ipaddress.ip_network("2000::/3")
"""All that is given out of IPv6 (https://www.iana.org/assignments/ipv6-address-space)."""
_SPECIAL: Final = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "3fff::/20", "2001:db8::/32")))
"""What Python's own table does not know in every version, or calls global."""


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
