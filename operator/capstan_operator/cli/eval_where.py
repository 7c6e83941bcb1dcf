"""Which models `capstan eval` asks, where, and as whom."""

import argparse
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from capstan_evaluation.errors import EvaluationError
from capstan_evaluation.runs.client import DEFAULT_SECONDS, BadUrl, Server, read_url
from capstan_evaluation.runs.conduct import Asked
from capstan_evaluation.runs.prices import BadPrices, ModelPrice, read_prices

KEYS: Final = ("CAPSTAN_API_KEY", "OPENAI_API_KEY")
MOST_CONCURRENCY: Final = 256
MOST_PRICES_BYTES: Final = 16 * 1024 * 1024
DEFAULT_URL: Final = "http://127.0.0.1:8080"
ROLES: Final = ("target", "judge", "embedder")


class Misused(EvaluationError):
    """A wrong command line; the message says why."""


def add_where(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say where models are."""
    where = parser.add_argument_group("where models are asked")
    where.add_argument(
        "--url", default=DEFAULT_URL, help="gateway, or any server of the OpenAI API (default: %(default)s)"
    )
    where.add_argument("--judge-url", metavar="URL", help="where the judge is (default: as --url)")
    where.add_argument("--embedder-url", metavar="URL", help="where the embedder is (default: as --url)")
    where.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"file with the API key (default: of {' or '.join(KEYS)})"
    )
    where.add_argument("--judge-key-file", type=Path, metavar="FILE", help="the same of --judge-url")
    where.add_argument("--embedder-key-file", type=Path, metavar="FILE", help="the same of --embedder-url")
    where.add_argument("--ca-file", type=Path, metavar="FILE", help="certificates of authorities to believe (PEM)")
    where.add_argument(
        "--timeout", type=float, default=DEFAULT_SECONDS, metavar="SECONDS", help="of one answer (default: 600)"
    )


def models_of(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> dict[str, Asked | None]:
    """Give the models that are named, by role. Raises Misused, and OSError.

    The key of the environment goes to --url, and to other URLs only where those are on the same host: a server is never
    sent the key of another one.
    """
    if not arguments.timeout > 0:
        raise Misused("--timeout must be above 0")
    return {role: _asked(role, arguments, environment) for role in ROLES}


def _asked(role: str, arguments: argparse.Namespace, environment: Mapping[str, str]) -> Asked | None:
    model: str | None = getattr(arguments, role)
    if model is None:
        return None
    if not model or not model.isprintable():
        raise Misused(f"--{role} must be the name of a model")
    base = _url("--url", arguments.url)
    given: str | None = None if role == "target" else getattr(arguments, f"{role}_url")
    url = base if given is None else _url(f"--{role}-url", given)
    file: Path | None = None if role == "target" else getattr(arguments, f"{role}_key_file")
    if file is None and url == base:
        file = arguments.key_file
    key = _key(file, environment if url == base else {})
    return Asked(Server(url, key, arguments.timeout), model)


def _url(flag: str, url: str) -> str:
    try:
        return read_url(url)
    except BadUrl as error:
        raise Misused(f"{flag} {error}") from None


def _key(file: Path | None, environment: Mapping[str, str]) -> str:
    names = [name for name in KEYS if environment.get(name)]
    key = (file.read_text() if file is not None else environment[names[0]] if names else "").strip()
    if (file is not None and not key) or not key.isprintable() or not key.isascii():
        raise Misused(f"{file or names[0]} holds no API key")
    return key


def context_of(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """Give whom to believe; None: whom the system does. Raises Misused, and OSError."""
    if arguments.ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(arguments.ca_file))
    except ssl.SSLError:
        raise Misused(f"--ca-file: {arguments.ca_file} holds no certificates") from None


def prices_of(path: Path | None) -> dict[str, ModelPrice]:
    """Read a file of prices. Raises Misused, and OSError."""
    if path is None:
        return {}
    if path.stat().st_size > MOST_PRICES_BYTES:
        raise Misused(f"--prices: {path} has more than {MOST_PRICES_BYTES} bytes")
    try:
        return read_prices(path.read_text(encoding="utf-8"))
    except (BadPrices, UnicodeDecodeError) as error:
        raise Misused(f"--prices: {path}: {error}") from None
