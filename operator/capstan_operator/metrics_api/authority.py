"""An authority of our own, and certificates of it. Only this module knows the library that makes them."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=3650)
RENEW_AUTHORITY: Final = timedelta(days=365)
"""So long before its end an authority gets a successor."""
CERTIFICATE_LIFE: Final = timedelta(days=7)
RENEW_CERTIFICATE: Final = timedelta(days=3)
_SKEW: Final = timedelta(minutes=10)
"""How far the clocks of machines may be apart."""
_CERTIFICATE, _KEY = "ca.crt", "ca.key"


@dataclass(frozen=True)
class Authority:
    """What signs, and what others trust."""

    certificates: bytes
    """PEM, its own first; behind it that of its predecessor, while certificates of it may be in use."""
    key: bytes
    """PEM."""

    @property
    def data(self) -> dict[str, str]:
        """What is in the Secret."""
        return {
            _CERTIFICATE: base64.b64encode(self.certificates).decode(),
            _KEY: base64.b64encode(self.key).decode(),
        }


def read_authority(data: Mapping[str, Any]) -> Authority | None:
    """Read it from the data of a Secret; None where there is none that can be used: we sign by elliptic curves."""
    try:
        found = Authority(*(base64.b64decode(str(data[name]), validate=True) for name in (_CERTIFICATE, _KEY)))
        own = x509.load_pem_x509_certificates(found.certificates)[0]
        key = load_pem_private_key(found.key, None)
        fits = isinstance(key, ec.EllipticCurvePrivateKey) and own.public_key() == key.public_key()
    except (KeyError, ValueError, TypeError, binascii.Error, IndexError, UnsupportedAlgorithm):
        return None
    return found if fits else None


def is_due(authority: Authority, now: datetime) -> bool:
    """Whether it needs a successor."""
    own = x509.load_pem_x509_certificates(authority.certificates)[0]
    return own.not_valid_after_utc - now < RENEW_AUTHORITY


def make_authority(now: datetime, before: Authority | None = None) -> Authority:
    """Make one; `before` is still trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    # NB: not that of what it signs, which would be taken for signed by itself.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "capstan-operator-metrics-api")])
    made = (
        _begin(name, name, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    old = x509.load_pem_x509_certificates(before.certificates)[:1] if before else []
    return Authority(b"".join(one.public_bytes(Encoding.PEM) for one in (made, *old)), _written(key))


def issue(authority: Authority, host: str, now: datetime) -> tuple[bytes, bytes]:
    """Give a certificate for a host, and its key, both PEM."""
    signer = load_pem_private_key(authority.key, None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("an authority's key must be one of an elliptic curve")
    issuer = x509.load_pem_x509_certificates(authority.certificates)[0].subject
    key = ec.generate_private_key(ec.SECP256R1())
    # NB: a common name has 64 characters at most; names are looked for among the alternative ones alone.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "capstan-operator")])
    made = (
        _begin(subject, issuer, key, now, CERTIFICATE_LIFE)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, SHA256())
    )
    return made.public_bytes(Encoding.PEM), _written(key)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )


def _written(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
