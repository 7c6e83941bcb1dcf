"""`capstan keys`: make, replace, list and revoke the API keys of the gateway's clients.

In a cluster they are Secrets of the namespace that Capstan is installed in; with --state-dir, hashes in the state
directory of `capstan up`. A key is shown when it is made, on standard output and alone there, and never again.
"""

import argparse
import asyncio
import functools
import importlib.util
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from capstan_operator.cli.cluster_keys import ClusterKeys
from capstan_operator.cli.key_output import created_text, document_of, documents_of, table_of
from capstan_operator.desired.api_keys import WEAK_BYTES, KeyFault, check_key
from capstan_operator.desired.issued import (
    Issued,
    Terms,
    check_name,
    check_terms,
    make_key,
    make_name,
    read_duration,
    read_end,
    renewed,
    retired,
)
from capstan_operator.kube.errors import Forbidden, KubeError, Unauthorized
from capstan_operator.local.errors import LocalError
from capstan_operator.local.key_file import LocalKeys
from capstan_operator.settings import BuildSettings

NAMESPACE: Final = BuildSettings().install_namespace
NEEDED: Final = ("kubernetes", "aiohttp", "msgspec")
INSTALL: Final = "pip install '.[operator]' in a clone"
GRACE: Final = "24h"
TABLE: Final = "table"
JSON: Final = "json"


class KeyStore(Protocol):
    """Where keys are kept."""

    async def all(self) -> list[Issued]:
        """Give those that were made."""
        ...

    async def create(self, name: str, value: str, terms: Terms) -> None:
        """Keep a new one."""
        ...

    async def expire(self, issued: Issued, at: int) -> None:
        """Have one end at a time."""
        ...

    async def delete(self, issued: Issued) -> None:
        """Have one be no key any more, at once."""
        ...

    async def replaced(self, old: Issued, value: str) -> None:
        """Have this new key stand wherever the old one is kept in clear."""
        ...


class NotInstalled(Exception):
    """A package is missing; the message says how it is installed."""


class NoCluster(Exception):
    """There is no kubeconfig that could be used."""


class NoSuchKeys(Exception):
    """There is no key of such a name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands and their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = _action(actions, "create", "make a key, and show it once")
    create.add_argument("--name", help="name of the key (default: made of whose it is)")
    _add_terms(create)
    create.add_argument(
        "--key-file", type=Path, metavar="FILE", help="use the key in this file (- is standard input), not a new one"
    )
    rotate = _action(actions, "rotate", "make a further key with the same rights, and have the old one end")
    rotate.add_argument("name", metavar="NAME", help="the key to replace")
    rotate.add_argument(
        "--grace", default=GRACE, metavar="DURATION", help="how long the old one stays valid, as in 1d12h (%(default)s)"
    )
    rotate.add_argument(
        "--expires", metavar="END", help="when the new one ends (default: it lives as long as the old one was to)"
    )
    _action(actions, "list", "show the keys that there are, without the keys themselves")
    revoke = _action(actions, "revoke", "have keys refused from now on")
    revoke.add_argument("names", nargs="*", metavar="NAME", help="the keys to revoke")
    revoke.add_argument("--user", help="all keys of this user")
    revoke.add_argument("--expired", action="store_true", help="all keys that have expired: they are only removed")


def _action(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    where = parser.add_argument_group("where the keys are")
    where.add_argument(
        "-n",
        "--namespace",
        default=os.environ.get("CAPSTAN_NAMESPACE") or NAMESPACE,
        help="where Capstan is installed (%(default)s)",
    )
    where.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    where.add_argument("--state-dir", type=Path, metavar="DIR", help="those of `capstan up` with this --state-dir")
    parser.add_argument("-o", "--output", choices=(TABLE, JSON), default=TABLE, help="form of the output (%(default)s)")
    return parser


def _add_terms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", help="whose key it is")
    parser.add_argument("--team", help="the team of the user")
    parser.add_argument("--tenant", help="who sees what is stored with it (default: the team, or the user)")
    parser.add_argument("--tier", help="tier that rate limits may ask for")
    parser.add_argument(
        "--models", metavar="NAMES", help="models that it may use, as in 'llama-8b,qwen-*' (default: all)"
    )
    parser.add_argument(
        "--expires", metavar="END", help="when it ends: as in 90d, 12h, or 2027-01-31T12:00:00Z (default: never)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it; give the exit code: 1, and one line that says why, when it could not be done."""
    try:
        return asyncio.run(_run(arguments))
    except (KeyFault, NoCluster, NoSuchKeys, NotInstalled, LocalError) as error:
        print(f"error: {error}", file=sys.stderr)
    except Forbidden as error:
        why = f"you {error.missing}" if error.missing else str(error)
        print(f"error: {why}; docs/install.md says which rights this needs", file=sys.stderr)
    except KubeError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror}", file=sys.stderr)
    return 1


async def _run(arguments: argparse.Namespace) -> int:
    async with _store(arguments) as store:
        await ACTIONS[arguments.action](store, arguments, time.time())
    return 0


@asynccontextmanager
async def _store(arguments: argparse.Namespace) -> AsyncIterator[KeyStore]:
    if arguments.state_dir is not None:
        if not arguments.state_dir.exists():
            _say_missing(arguments)
        yield LocalKeys(arguments.state_dir)
        return
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise NotInstalled(f"API keys of a cluster need {', '.join(missing)}: {INSTALL}")
    # NB: imported only now, so that keys of local mode need nothing of a cluster's.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    load = functools.partial(load_configuration, arguments.context)
    try:
        configuration = await load()
    except Unauthorized as error:
        raise NoCluster(f"{error}; keys of `capstan up` are those of its --state-dir") from None
    kube = KubeClient(configuration, reload=load, user_agent="capstan-cli")
    try:
        yield ClusterKeys(kube, arguments.namespace)
    finally:
        await kube.close()


def _say_missing(arguments: argparse.Namespace) -> None:
    """Say that there is no such state directory. Raises NoSuchKeys, unless a key is to be made in it."""
    if arguments.action != "create":
        raise NoSuchKeys(f"there is no state directory {arguments.state_dir}: `capstan up` makes it")
    print(
        f"note: there was no state directory {arguments.state_dir}; the key is for `capstan up --state-dir` with it",
        file=sys.stderr,
    )


async def create(store: KeyStore, arguments: argparse.Namespace, now: float) -> None:
    """Make a key and print it."""
    terms = Terms(
        user=_said(arguments, "user"),
        team=_said(arguments, "team"),
        tenant=_said(arguments, "tenant"),
        tier=_said(arguments, "tier"),
        models=_said(arguments, "models"),
        expires=_end(arguments, now),
    )
    name = check_name(_said(arguments, "name") or make_name(terms))
    check_terms(name, terms)
    value = _given(arguments.key_file) if arguments.key_file else make_key()
    if len(value) < WEAK_BYTES:
        print(f"warning: the key has fewer than {WEAK_BYTES} characters, and may be guessed", file=sys.stderr)
    await store.create(name, value, terms)
    _show(arguments, Issued(name, terms, created=int(now)), value, now)


async def rotate(store: KeyStore, arguments: argparse.Namespace, now: float) -> None:
    """Make a further key with the terms of another one, print it, and have the other one end after the grace."""
    grace = read_duration(arguments.grace)
    end_of_new = _end(arguments, now)
    old = _named(await store.all(), [arguments.name])[0]
    if old.fault:
        raise KeyFault(f"'{old.name}' cannot be rotated: {old.fault}")
    expires = end_of_new or renewed(old, now)
    terms = Terms(old.terms.user, old.terms.team, old.terms.tenant, old.terms.tier, old.terms.models, expires)
    if not (terms.user or terms.team or terms.tenant):
        raise KeyFault(
            f"'{old.name}' has no user, team or tenant: it is a tenant of its own, which no other key can be of;"
            " create a new one, and revoke it"
        )
    name, value = make_name(terms), make_key()
    await store.create(name, value, terms)
    end, made = retired(old.terms, now=now, grace=grace), Issued(name, terms, created=int(now))
    try:
        await store.replaced(old, value)
        await store.expire(old, end)
    except BaseException:
        _show(arguments, made, value, now)  # it is valid, and shown now or never
        raise
    _show(arguments, made, value, now, replaces=(old.name, end))


async def list_all(store: KeyStore, arguments: argparse.Namespace, now: float) -> None:
    """Print what is known of all keys."""
    issued = sorted(await store.all(), key=lambda one: (one.terms.team, one.terms.user, one.created, one.name))
    print(documents_of(issued, now) if arguments.output == JSON else table_of(issued, now))


async def revoke(store: KeyStore, arguments: argparse.Namespace, now: float) -> None:
    """Take keys away, and print which."""
    if not (arguments.names or arguments.user or arguments.expired):
        raise KeyFault("name the keys to revoke, or say --user or --expired")
    issued = await store.all()
    chosen = {one.name: one for one in _named(issued, arguments.names)}
    if arguments.user:
        chosen |= {one.name: one for one in issued if one.terms.user == arguments.user}
        if not any(one.terms.user == arguments.user for one in issued):
            raise NoSuchKeys(f"there is no API key of the user '{arguments.user}'")
    if arguments.expired:
        chosen |= {one.name: one for one in issued if one.state(now) == "Expired"}
    for one in chosen.values():
        await store.delete(one)
        if arguments.output == TABLE:
            print(f"revoked {one.name}")
    if arguments.output == JSON:
        print(documents_of(list(chosen.values()), now))


Action = Callable[[KeyStore, argparse.Namespace, float], Awaitable[None]]
ACTIONS: Final[dict[str, Action]] = {"create": create, "rotate": rotate, "list": list_all, "revoke": revoke}


def _said(arguments: argparse.Namespace, option: str) -> str:
    """Give what an option says; empty where it is left out. Raises KeyFault for one that says nothing, as the variable
    of a script that is not set does: the key would be allowed more than was meant."""
    text: str | None = getattr(arguments, option)
    if text is not None and not text.strip():
        raise KeyFault(f"--{option} is empty: leave it out, or say what it is to be")
    return (text or "").strip()


def _end(arguments: argparse.Namespace, now: float) -> int:
    text = _said(arguments, "expires")
    return read_end(text, now) if text else 0


def _named(issued: Sequence[Issued], names: Sequence[str]) -> list[Issued]:
    """Give those with these names. Raises NoSuchKeys, before anything is done, when one of them is not there."""
    known = {one.name: one for one in issued}
    if missing := [name for name in names if name not in known]:
        raise NoSuchKeys(f"there is no API key '{missing[0]}'; `capstan keys list` shows those that there are")
    return [known[name] for name in names]


def _given(path: Path) -> str:
    raw = sys.stdin.buffer.read(65_536) if str(path) == "-" else path.read_bytes()[:65_536]
    return check_key(raw).decode()


def _show(
    arguments: argparse.Namespace, issued: Issued, value: str, now: float, replaces: tuple[str, int] | None = None
) -> None:
    if arguments.output == JSON:
        print(document_of(issued, now, key=value, replaces=replaces))
        return
    # NB: the key is all of the standard output, so that a script can take it from there.
    print(created_text(issued, replaces), file=sys.stderr)
    print(value)
