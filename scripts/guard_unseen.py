"""Harmless texts that the classifier is never trained on: where its thresholds come from.

Public sets that are for other things, the rows of those it learns from that it did not learn from, and sentences that
were written for this, full of the words of attacks, and personas.
"""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from guard_corpus import SOURCES, left_out, read_lines
from guard_own import lines_of

MOST: Final = 150
"""Texts of a set."""
LOOK_ALIKES: Final = frozenset(("triggers", "personas"))
"""Sets that are all of what is hard."""


def _some(texts: Iterable[str], name: str, seed: int) -> list[str]:
    chosen = sorted({text.strip() for text in texts} - {""})
    random.Random(f"{seed}:{name}").shuffle(chosen)  # noqa: S311
    return chosen[:MOST]


def load_unseen(data: Path, seed: int) -> dict[str, dict[str, list[str]]]:
    """Give the harmless texts that thresholds come from, by what they are judged as, and by set."""
    prompts: dict[str, Iterable[str]] = {name: lines_of(f"thresholds/{name}.txt") for name in sorted(LOOK_ALIKES)}
    for name in ("llmbar_natural", "llmbar_adv_neighbor", "llmeval2_human", "faireval_human"):
        pairs = json.loads((data / "llmbar_human_pref" / f"{name}.json").read_text(encoding="utf-8"))
        prompts[name] = [pair["input"] for pair in pairs if not pair["input"].startswith(_NEITHER)]
    for name in ("surge_toxicity", "toxigen_sentences"):
        prompts[name] = [row["text"] for row in read_lines(data / name) if row["label"] == 0]
    prompts["advising_question_pairs"] = [row["q1"] for row in read_lines(data / "advising_question_pairs")]
    natural = json.loads((data / "llmbar_human_pref" / "llmbar_natural.json").read_text(encoding="utf-8"))
    tools: dict[str, Iterable[str]] = {
        "llmbar_answers": [pair["output_1"] for pair in natural],
        "tau_bench_pii": [row["text"] for row in read_lines(data / "tau_bench_pii")],
        "ambientmeta_pii": [row["text"] for row in read_lines(data / "ambientmeta_pii")],
        "surge_toxicity": prompts["surge_toxicity"],
    }
    found = {"prompts": prompts, "tools": tools}
    for source in SOURCES:
        if source.name in _OTHER_ROWS:
            for kind, texts in left_out(source, data, seed).items():
                if len(texts) >= MOST // 3:
                    found[kind][f"{source.name}, other rows"] = texts
    return {kind: {name: _some(texts, name, seed) for name, texts in sets.items()} for kind, sets in found.items()}


_NEITHER: Final = "Respond to the user question while avoiding safety issues"
"""How requests for harm begin in these sets, which are of no class here, and ask for no look at safety besides."""
_OTHER_ROWS: Final = frozenset(
    ("arena_hard_prompts", "oasst_en_prompts", "bfcl_requests", "tau_bench_agent", "owasp_cheatsheets", "tldr_pages")
)
"""Sets with harmless rows that nothing was trained on, near to what was."""
