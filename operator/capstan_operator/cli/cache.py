"""`capstan cache`: what the gateway's replicas keep of answers, and having them not give it again."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from capstan_operator.cli.admin_source import Question, Refused, Told, add_where, fetch, fetch_each, object_of
from capstan_operator.cli.tables import as_table, printable
from capstan_operator.errors import OperatorError

PURGE: Final = "/admin/cache/purge"
RESET: Final = "/admin/cache/reset"
STATS: Final = "/admin/cache/stats"
ENTRY: Final = "/admin/cache/entry"
NANO: Final = 1_000_000_000
HITS: Final = ("memoryHits", "redisHits", "semanticHits")
_SUMMED: Final = (*HITS, "misses", "bypassed", "stored", "entries", "bytes", "savedTokens", "savedNanoDollars")
_HEAD: Final = ("policy", "mode", "hits", "misses", "hit %", "bypassed", "entries", "bytes", "saved tokens", "saved $")
_EPILOG: Final = """\
Gateways are asked: those of the cluster which the kubeconfig names, by way of its API server (which needs the rights to
`get` and `create` services/proxy and pods/proxy, to list Services and EndpointSlices, and to `get` the Secret with the
admin key), the one of `capstan up` with --state-dir, or the admin port at --url, which is one replica."""
_Asks = Callable[[Question], list[Told]]


class Failed(Exception):
    """It cannot be done; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    commands = parser.add_subparsers(dest="what", metavar="purge|stats|inspect|reset", required=True)
    purge = commands.add_parser("purge", help="have kept answers not be given again, by any replica", epilog=_EPILOG)
    which = purge.add_mutually_exclusive_group(required=True)
    which.add_argument("--entry", metavar="KEY", help="one answer: what it had as x-cache-key")
    which.add_argument("--model", metavar="NAME", help="all answers of a model, by its name or as NAMESPACE/NAME")
    which.add_argument("--tenant", metavar="NAME", help="all answers to a tenant")
    which.add_argument("--all", action="store_true", help="all answers")
    stats = commands.add_parser("stats", help="what caches have done, and what they hold now", epilog=_EPILOG)
    inspect = commands.add_parser("inspect", help="what is kept under a key, and not what it says", epilog=_EPILOG)
    inspect.add_argument("key", metavar="KEY", help="what an answer had as x-cache-key")
    reset = commands.add_parser(
        "reset", help="have what was measured of a policy's hits by meaning begin anew, and be on again", epilog=_EPILOG
    )
    reset.add_argument("policy", metavar="NAMESPACE/NAME", help="the CachePolicy")
    for command in (purge, stats, inspect, reset):
        add_where(command)
    for command in (stats, inspect):
        command.add_argument(
            "-o", "--output", choices=("table", "json"), default="table", help="form (default: %(default)s)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print what is told; 1 when it cannot be done."""
    commands = {"purge": _purge, "stats": _stats, "inspect": _inspect, "reset": _reset}
    try:
        print(commands[arguments.what](arguments))
    except Refused as error:
        print(f"error: {refusal(error)}", file=sys.stderr)
        return 1
    except (Failed, OSError, ValueError, OperatorError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _purge(arguments: argparse.Namespace) -> str:
    body = {name: value for name in ("entry", "model", "tenant", "all") if (value := getattr(arguments, name))}
    return _everywhere(arguments, Question(PURGE, body=body), "cache.purge", done="purged")


def _reset(arguments: argparse.Namespace) -> str:
    return _everywhere(arguments, Question(RESET, body={"policy": arguments.policy}), "cache.reset", done="reset")


def _everywhere(arguments: argparse.Namespace, question: Question, kind: str, *, done: str) -> str:
    """Have it done by any replica; where that is not heard of by all, by each."""
    if read(fetch(arguments, question), kind).get("everywhere"):
        return f"{done}: every gateway replica hears of it within a second"
    told = fetch_each(arguments, question)
    failed = [one for one in told if not one.body]
    if failed:
        names = ", ".join(f"{one.replica} ({_why(one)})" for one in failed)
        raise Failed(f"{done} on {len(told) - len(failed)} of {len(told)} gateway replicas, and not on {names}")
    return f"{done} on {len(told)} gateway replica{'' if len(told) == 1 else 's'}: they share no Redis now"


def _stats(arguments: argparse.Namespace) -> str:
    answers = dict(_answers(fetch_each(arguments, Question(STATS)), "cache.stats"))
    return json.dumps(answers, indent=2) if arguments.output == "json" else stats_table(answers)


def stats_table(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """Write what replicas say of each policy, summed, as a table."""
    sums: dict[str, dict[str, int]] = {}
    modes: dict[str, str] = {}
    for answer in answers.values():
        for id_, counts in answer["policies"].items():
            name = str(id_).partition("/")[2]
            row = sums.setdefault(name, dict.fromkeys(_SUMMED, 0))
            for what in _SUMMED:
                row[what] += int(counts.get(what, 0))
            modes[name] = str(counts.get("mode", ""))
    if not sums:
        return "no CachePolicy is in force"
    rows = [[printable(name), printable(modes[name]), *_cells(row)] for name, row in sorted(sums.items())]
    since = f"of {len(answers)} gateway replica{'' if len(answers) == 1 else 's'}, each since it began"
    return as_table([list(_HEAD), *rows], left=2) + since


def _cells(row: Mapping[str, int]) -> Iterator[str]:
    hits = sum(row[one] for one in HITS)
    looked = hits + row["misses"]
    yield str(hits)
    yield str(row["misses"])
    yield str(100 * hits // looked if looked else 0)
    yield from (str(row[one]) for one in ("bypassed", "entries", "bytes", "savedTokens"))
    yield f"{Decimal(row['savedNanoDollars']) / NANO:.6f}"


def _inspect(arguments: argparse.Namespace) -> str:
    told = fetch_each(arguments, Question(ENTRY, {"key": arguments.key}))
    found = dict(_answers((one for one in told if not _is_absent(one)), "cache.entry"))
    if not found:
        raise Failed("no gateway replica keeps anything under this key")
    if arguments.output == "json":
        return json.dumps(found, indent=2)
    return "\n".join(line for replica, entry in found.items() for line in _described(replica, entry))


def _is_absent(told: Told) -> bool:
    return told.refused is not None and told.refused.status == 404 and b"entry_not_found" in told.refused.body


def _described(replica: str, entry: Mapping[str, Any]) -> Iterator[str]:
    yield f"{printable(replica)}:"
    for name, value in entry.items():
        if name not in ("object", "key") and value is not None:
            yield f"  {printable(name)}: {printable(str(value))}"


def _answers(told: Iterator[Told] | Sequence[Told], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read what each replica says; Refused or Failed where one does not."""
    for one in told:
        if one.refused is not None:
            raise one.refused
        if one.silence:
            raise Failed(f"{one.replica}: {one.silence}")
        yield one.replica, read(one.body, kind)


def read(body: bytes, kind: str) -> dict[str, Any]:
    """Read what a gateway tells; ValueError, in one line, when it is something else."""
    told = object_of(body)
    if told is None or told.get("object") != kind:
        raise ValueError("this is no gateway's admin port: it answered something else")
    return told


def _why(told: Told) -> str:
    return told.silence or (refusal(told.refused) if told.refused is not None else "no answer")


def refusal(error: Refused) -> str:
    """Say why a gateway did not answer, and what can be done."""
    if error.status == 404 and "unknown route" in error.message:
        return "this gateway has no caches, or this is not its admin port"
    return error.told
