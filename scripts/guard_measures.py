"""What a network does on sources that it has not seen: thresholds, and what is found and flagged at them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import numpy
from guard_corpus import Text

Array = Any
COLUMNS: Final = {"prompts": 0, "tools": 1}


def calibrate(
    sets: Mapping[str, Mapping[str, Array]],
    rates: Mapping[str, Mapping[str, tuple[float, float]]],
    look_alikes: Collection[str],
) -> dict[str, Any]:
    """Give thresholds and what they flag, of the scores of harmless texts that the shipped network has not seen.

    Of `rates` the first is the share of ordinary texts that may be flagged, the second that of the sets of look-alikes;
    the threshold is the higher of what both ask for.
    """
    found: dict[str, Any] = {"thresholds": {}, "harmless": {}}
    for kind, scores_by_name in sets.items():
        scores = numpy.concatenate(list(scores_by_name.values()))
        sources = numpy.concatenate([[name] * len(scores) for name, scores in scores_by_name.items()])
        alike = numpy.isin(sources, list(look_alikes))
        at = {rate: round(_lowest(scores, sources, alike, both), 6) for rate, both in rates[kind].items()}
        found["thresholds"][kind] = at
        found["harmless"][kind] = {
            rate: shares(scores, sources, value) for rate, value in at.items() if rate != "doubt"
        }
    return found


def _lowest(scores: Array, sources: Array, alike: Array, rates: tuple[float, float]) -> float:
    parts = [(~alike, rates[0]), (alike, rates[1])]
    return max(threshold(scores[part], sources[part], rate, low=0.0, high=1.0) for part, rate in parts if part.any())


def threshold(scores: Array, sources: Array, rate: float, *, low: float = -20.0, high: float = 20.0) -> float:
    """Give the least score at which the mean over sources of what is flagged is at most `rate`.

    No source counts for more than a fifth: one that is all of one odd kind decides nothing.
    """
    names = sorted(set(sources))
    for _ in range(60):
        middle = (low + high) / 2
        flagged = numpy.mean([min(float(numpy.mean(scores[sources == name] >= middle)), 0.2) for name in names])
        low, high = (middle, high) if flagged > rate else (low, middle)
    return high


def shares(scores: Array, sources: Array, least: float) -> dict[str, dict[str, float]]:
    """Give for each source how many of its texts reach a score."""
    return {
        str(name): {
            "texts": int((sources == name).sum()),
            "flagged": round(float(numpy.mean(scores[sources == name] >= least)), 4),
        }
        for name in sorted(set(sources))
    }


def measure(parts: Iterable[tuple[list[Text], Array]], rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Give for each fold thresholds, as scores from 0 to 1, and what is flagged at them, of its texts and logits."""
    return [_measure(texts, logits, rates) for texts, logits in parts]


def _measure(texts: list[Text], logits: Array, rates: Mapping[str, float]) -> dict[str, Any]:
    attack = numpy.array([text.attack for text in texts])
    tool = numpy.array([text.tool for text in texts])
    source = numpy.array([text.source for text in texts])
    found: dict[str, Any] = {"thresholds": {}, "unseen": {}}
    for name, column in COLUMNS.items():
        among = tool if name == "tools" else ~tool
        harmless, attacks = among & ~attack, among & attack
        scores = logits[:, column]
        at = {rate: threshold(scores[harmless], source[harmless], share) for rate, share in rates.items()}
        found["thresholds"][name] = {rate: round(float(1 / (1 + numpy.exp(-value))), 6) for rate, value in at.items()}
        found["unseen"][name] = {
            rate: {
                "attacks": shares(scores[attacks], source[attacks], value),
                "harmless": shares(scores[harmless], source[harmless], value),
            }
            for rate, value in at.items()
            if rate != "doubt"
        }
    return found


def merged(measured: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Put what was measured of all folds together: no source is in two, but for a few that have prompts and texts."""
    found: dict[str, Any] = {}
    for fold in measured:
        for name, by_rate in fold["unseen"].items():
            for rate, both in by_rate.items():
                for what, rows in both.items():
                    found.setdefault(name, {}).setdefault(rate, {}).setdefault(what, {}).update(rows)
    return found


def card_lines(unseen: Mapping[str, Any]) -> list[str]:
    """Give the table of the model card."""
    lines = ["| source | texts | Low | Medium | High |", "| --- | --- | --- | --- | --- |"]
    for what in ("attacks", "harmless"):
        for name, of in (("prompts", ""), ("tools", " (tools, documents)")):
            by_rate = [unseen[name][rate][what] for rate in ("Low", "Medium", "High")]
            for source, first in by_rate[0].items():
                shown = " | ".join(f"{100 * by[source]['flagged']:.1f}" for by in by_rate)
                lines.append(f"| {source}: {what}{of} | {first['texts']} | {shown} |")
            means = [numpy.mean([row["flagged"] for row in by.values()]) for by in by_rate]
            lines.append(f"| **mean: {what}{of}** | | " + " | ".join(f"**{100 * mean:.1f}**" for mean in means) + " |")
    return lines


def calibration_lines(calibrated: Mapping[str, Any]) -> list[str]:
    """Give the table of harmless texts that the shipped network has not seen."""
    lines = ["| set | judged as | texts | Low | Medium | High |", "| --- | --- | --- | --- | --- | --- |"]
    for kind, by_rate in calibrated["harmless"].items():
        for source, first in by_rate["Low"].items():
            shown = " | ".join(f"{100 * by_rate[rate][source]['flagged']:.1f}" for rate in ("Low", "Medium", "High"))
            lines.append(f"| {source} | {kind} | {first['texts']} | {shown} |")
    return lines


def fill(text: str, name: str, lines: Iterable[str]) -> str:
    """Put lines between the two marks of a name in a text."""
    before, rest = text.split(f"<!-- {name}: begin -->\n", 1)
    _, after = rest.split(f"<!-- {name}: end -->", 1)
    return "\n".join((f"{before}<!-- {name}: begin -->", *lines, f"<!-- {name}: end -->{after}"))
