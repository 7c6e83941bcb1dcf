"""Certificates of an authority of one's own, made by the real openssl."""

import ssl
import subprocess
from pathlib import Path


def make_authority(folder: Path, name: str) -> Path:
    """Make an authority (ca.pem) and a certificate of it for a host (cert.pem, key.pem) in this folder; give that."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
        "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test authority",
    )  # fmt: skip
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", "key.pem", "-out", "request.pem", "-subj", f"/CN={name}",
    )  # fmt: skip
    (folder / "names").write_text(f"subjectAltName=DNS:{name}")
    openssl(
        "x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
        "-days", "2", "-extfile", "names", "-out", "cert.pem",
    )  # fmt: skip
    return folder


def serving_context(folder: Path) -> ssl.SSLContext:
    """Give what a server needs to show the certificate of such a folder; it would speak HTTP/2 as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
