"""The outcome of `capstan guard test`, for people and for programs. Pure."""

import json
from typing import Any, Final

from capstan_contract.intervals import wilson
from capstan_operator.api.kinds import Policy
from capstan_operator.cli.guard_score import Confusion, Mistake, Score, percentile

MOST_SHOWN: Final = 160
"""Characters of an example."""


def as_table(policy: Policy, guards: list[dict[str, Any]], score: Score) -> str:
    """Write the outcome for people."""
    whole = score.whole
    lines = [
        f"{policy.key}: {len(score.seconds)} prompts, {whole.attacks} of attacks and {whole.benign} benign",
        "",
        f"{'':24}{'found':>8}{'passed':>8}",
        _row("attack", whole.attacks_found, whole.attacks) + _rate("recall", *_recall(whole)),
        _row("benign", whole.benign_found, whole.benign) + _rate("pass rate", *_passed(whole)),
        "",
    ]
    for name, one in score.guards.items():
        lines.append(f"{name:24}{_rate('recall', *_recall(one))}, {_rate('pass rate', *_passed(one))}")
    lines += [f"{guard['name']:24}asks somebody, and was not tried" for guard in guards if not guard["tried"]]
    lines += [
        f"{guard['name']:24}asks a model of what it is not sure of, which was not done" for guard in guards
        if guard["tried"] and guard.get("asks")
    ]  # fmt: skip
    lines += [f"{name:24}could not decide {count}: {reason}" for (name, reason), count in score.undecided.items()]
    for kind, counts in sorted(score.kinds.items()):
        found, there = counts["right"] + counts["wrong"], counts["right"] + counts["missed"]
        lines.append(
            f"{kind:24}{_rate('recall', counts['right'], there)}, {_rate('precision', counts['right'], found)}"
        )
    p50, p99 = percentile(score.seconds, 0.5) * 1e3, percentile(score.seconds, 0.99) * 1e3
    lines += ["", f"a text took {p50:.2f} ms (p50), {p99:.2f} ms (p99)"]
    lines += _examples("missed", score.missed) + _examples("found for nothing", score.wrong)
    return "\n".join(lines)


def _row(title: str, found: int, of: int) -> str:
    return f"{title:24}{found:>8}{of - found:>8}   "


def _recall(one: Confusion) -> tuple[int, int]:
    return one.attacks_found, one.attacks


def _passed(one: Confusion) -> tuple[int, int]:
    return one.benign - one.benign_found, one.benign


def _rate(name: str, hits: int, of: int) -> str:
    if not of:
        return f"{name} -"
    low, high = wilson(hits, of)
    return f"{name} {hits / of:.1%} ({low:.1%} to {high:.1%})"


def _examples(title: str, mistakes: list[Mistake]) -> list[str]:
    if not mistakes:
        return []
    rows = []
    for one in sorted(mistakes, reverse=True):
        # NB: what is in a file may hold characters that a terminal obeys.
        text = "".join(char if char.isprintable() else " " for char in one.text[: MOST_SHOWN + 1])
        short = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
        rows.append(f"  line {one.line}{f' ({one.said})' if one.said else ''}: {short}")
    return ["", f"{title}, the worst first:", *rows]


def as_json(guards: list[dict[str, Any]], score: Score) -> str:
    """Write the outcome for programs."""

    def rate(hits: int, of: int) -> dict[str, Any]:
        low, high = wilson(hits, of)
        return {"hits": hits, "of": of, "rate": hits / of if of else None, "low": low, "high": high}

    def both(one: Confusion) -> dict[str, Any]:
        return {"recall": rate(*_recall(one)), "passRate": rate(*_passed(one))}

    def examples(mistakes: list[Mistake]) -> list[dict[str, Any]]:
        return [{"line": one.line, "found": one.said, "text": one.text} for one in sorted(mistakes, reverse=True)]

    told = {
        "prompts": len(score.seconds),
        **both(score.whole),
        "guards": [{**guard, **(both(score.guards[guard["name"]]) if guard["tried"] else {})} for guard in guards],
        "kinds": {
            kind: {
                "recall": rate(counts["right"], counts["right"] + counts["missed"]),
                "precision": rate(counts["right"], counts["right"] + counts["wrong"]),
            }
            for kind, counts in sorted(score.kinds.items())
        },
        "undecided": [
            {"guard": name, "reason": reason, "prompts": count} for (name, reason), count in score.undecided.items()
        ],
        "milliseconds": {"p50": percentile(score.seconds, 0.5) * 1e3, "p99": percentile(score.seconds, 0.99) * 1e3},
        "missed": examples(score.missed),
        "wrong": examples(score.wrong),
    }
    return json.dumps(told, indent=2)
