"""Pairs of questions that a semantic cache is trained and measured with: public ones, and ones made from public texts.

Label 1: one answer serves both. Label 0: it does not. What a set is, and whose, stands in the README beside the data.
"""

import csv
import gzip
import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

SEED: Final = 12
STS_SAME: Final = 4.0
"""Of 0 to 5: from here on two sentences say the same."""
UNSURE: Final = frozenset(("other_query", "other_question_same_paragraph"))
"""Kinds of pairs that are told apart by how they were made, and many of which mean the same to who reads them."""
BY_INTENT: Final = "other intents"
"""In the name of sets whose label is that of an intent: among them, too, are some that mean the same."""
_NUMBER: Final = re.compile(r"(?<![\w.,])\d+(?![\w.,]*\d)")
_WORD: Final = re.compile(r"\b[a-z]{4,}\b")
_NAME: Final = re.compile(r"(?<=[a-z,] )(?!I\b)[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_VERB: Final = re.compile(r"^((?:wh[a-z]+|how)\b.*?\b)?(is|are|was|were|can|could|should|does|do|did|will|would)\b",
                          re.IGNORECASE)  # fmt: skip
OPPOSITES: Final = """
how do i turn on two factor authentication | how do i turn off two factor authentication
Why is my electricity bill so high? | Why is my electricity bill so low?
How can I gain weight? | How can I lose weight?
What foods should I eat before a run? | What foods should I avoid before a run?
How do I join a mailing list? | How do I leave a mailing list?
Is it safe to take ibuprofen with alcohol? | Is it unsafe to take ibuprofen with alcohol?
What are the advantages of remote work? | What are the disadvantages of remote work?
How to make a file readable by everyone? | How to make a file unreadable by everyone?
How do I start the database server? | How do I shut down the database server?
Why do people trust the media? | Why do people distrust the media?
Which employees have a contract? | Which employees have no contract?
How do I show hidden files? | How do I conceal hidden files?
Can dogs eat grapes? | Can dogs not eat grapes?
Explain why the reaction is exothermic. | Explain why the reaction is endothermic.
When does the store open? | When does the store close?
How do I mute a conversation? | How do I unmute a conversation?
What raises blood pressure? | What lowers blood pressure?
Who won the final? | Who lost the final?
What makes a good leader? | What makes a poor leader?
How can I speed up my computer? | How can I slow down my computer?
Convert 10 miles to kilometers | Convert 10 kilometers to miles
translate this from english to french | translate this from french to english
How do I grant access to a user? | How do I revoke access for a user?
Is the service available in my region? | Is the service unavailable in my region?
What happens when demand exceeds supply? | What happens when supply exceeds demand?
List the countries that joined the union. | List the countries that left the union.
What are symptoms of low blood sugar? | What are symptoms of high blood sugar?
Did the team ever win the cup? | Did the team never win the cup?
How do I make my skin darker? | How do I make my skin lighter?
Can I deduct this from my taxes? | Can't I deduct this from my taxes?
Should I pay off debt or invest? | Should I invest without paying off debt?
Which stocks went up today? | Which stocks went down today?
What did the critics praise about the film? | What did the critics condemn about the film?
How do I block a caller? | How do I unblock a caller?
Does caffeine help you sleep? | Does caffeine keep you from sleeping?
Why was the proposal accepted? | Why was the proposal turned down?
What is the minimum age to drive? | What is the maximum age to drive?
how to increase the font size | how to decrease the font size
Tell me the oldest member of the crew | Tell me the youngest member of the crew
Do vaccines cause autism? | Do vaccines prevent autism?
How can I stay awake at night? | How can I fall asleep at night?
Name a city that is north of Rome. | Name a city that is south of Rome.
What is the first step of the process? | What is the last step of the process?
Is A greater than B? | Is B greater than A?
Who does Romeo love? | Who loves Romeo?
Did the dog bite the man? | Did the man bite the dog?
How many people immigrate to Canada each year? | How many people emigrate from Canada each year?
Show orders that have shipped. | Show orders that haven't shipped.
Write a positive review of the hotel. | Write a negative review of the hotel.
Give me arguments in favor of a carbon tax. | Give me arguments against a carbon tax.
What is the boiling point of ethanol? | What is the freezing point of ethanol?
Which drug treats hypertension? | Which drug treats hypotension?
How do I log in? | How do I log out?
Where can I borrow money? | Where can I lend money?
How do I make the text bold? | How do I make the text not bold?
Is the patient hyperthyroid? | Is the patient hypothyroid?
"""


MISLABELLED: Final = frozenset(
    frozenset(pair)
    for pair in (
        ("Which Asian countries have a population that is larger than any country in Africa?",
         "What are the Asian countries which have a population larger than that of any country in Africa?"),
        ("What are the African countries that have a  population less than any country in Asia?",
         "Which African countries have a smaller population than that of any country in Asia?"),
        ("Find the name and checking balance of the account with the lowest savings balance.",
         "Find the name and checking balance of the account with the lowest saving balance."),
        ("Which allergy type is most common?", "Which allergy is the most common?"),
    )
)  # fmt: skip
"""Pairs that say the same, whatever their label: found among those that were scored highest."""


class Pair(NamedTuple):
    """Two questions."""

    set: str
    one: str
    other: str
    label: int


def read_sets(data: Path) -> list[Pair]:
    """Give all pairs, public and made ones, the same each time. Ends the process where a set is missing."""
    try:
        return _all_sets(data)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error.filename} is not here: the sets are in no repository of ours") from None


def _all_sets(data: Path) -> list[Pair]:
    return [*public_pairs(data), *made_pairs(data)]


def public_pairs(data: Path) -> list[Pair]:
    """Give those that others have labelled."""
    found: list[Pair] = []
    with (data / "stsbenchmark/sts-dev.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            found.append(Pair("stsbenchmark", row[5], row[6], int(float(row[4]) >= STS_SAME)))
    for name, path in (
        ("spider_syn", "spider_syn_pairs/data.jsonl.gz"), ("advising", "advising_question_pairs/data.jsonl"),
        ("qald9_plus", "qald9_plus_pairs/data.jsonl"), ("svamp_changed", "svamp_changed_pairs/data.jsonl.gz"),
        ("pawsx_de", "pawsx_de/data.jsonl.gz"), ("xquad", "xquad_question_pairs/data.jsonl"),
    ):  # fmt: skip
        for row in _rows(data / path):
            if row["kind"] in UNSURE or frozenset((row["q1"], row["q2"])) in MISLABELLED:
                continue
            languages = row.get("lang", "").split("-")
            across = len(languages) > 1 and languages[0] != languages[-1]
            found.append(Pair(f"{name}, across languages" if across else name, row["q1"], row["q2"], int(row["label"])))
    return found


def made_pairs(data: Path) -> list[Pair]:
    """Give those that are made of texts by a change that makes another question of them, and opposites."""
    rng = random.Random(SEED)  # noqa: S311
    sums = [row["question"] for row in _rows(data / "gsm8k/test.jsonl")]
    asked = [row["text"] for row in _rows(data / "nq_open_questions/data.jsonl")]
    formed = [
        row["text"] for row in _rows(data / "query_wellformedness/data.jsonl.gz") if float(row["wellformed"]) >= 0.8
    ]
    asked, formed = rng.sample(asked, 800), rng.sample(formed, 800)
    named = [row["q1"] for row in _rows(data / "qald9_plus_pairs/data.jsonl") if row["lang"].startswith("en")]
    named += [row["q1"] for row in _rows(data / "xquad_question_pairs/data.jsonl")]
    found = [
        *_made("one number changed (gsm8k)", sums, _other_number, rng),
        *_made("one word changed (gsm8k)", sums[:600], _word_changer(sums), rng),
        *_made("one word changed (questions)", asked + formed, _word_changer(asked + formed), rng),
        *_made("negated", formed, _negated, rng),
        *_made("two names swapped", dict.fromkeys(named), _swapped, rng),
    ]
    opposites = (line.split(" | ") for line in OPPOSITES.strip().splitlines())
    found += [Pair("opposites", one, other, 0) for one, other in opposites]
    for name, path in (
        ("banking77", "banking77_intents/data.jsonl.gz"),
        ("clinc150", "clinc150_intents/data.jsonl.gz"),
    ):
        rows = [row for row in _rows(data / path) if row["split"] == "test" and "oos" not in row["intent"]]
        found += _near_intents(f"{name}, {BY_INTENT}", rng.sample(rows, min(len(rows), 1500)))
    return found


def _near_intents(name: str, rows: list[dict[str, Any]]) -> Iterable[Pair]:
    """Give to each request the one of another intent that has most words in common with it."""
    words = [frozenset(row["text"].casefold().split()) for row in rows]
    for at, row in enumerate(rows):
        others = (other for other in range(len(rows)) if rows[other]["intent"] != row["intent"])
        best = max(others, key=lambda other: len(words[at] & words[other]) / len(words[at] | words[other]))
        yield Pair(name, row["text"], rows[best]["text"], 0)


def _made(
    name: str, texts: Iterable[str], change: Callable[[str, random.Random], str | None], rng: random.Random
) -> Iterable[Pair]:
    for text in texts:
        changed = change(text, rng)
        if changed is not None and changed != text:
            yield Pair(name, text, changed, 0)


def _other_number(text: str, rng: random.Random) -> str | None:
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return None
    at = rng.choice(numbers)
    other = int(at.group()) + rng.choice((-2, -1, 1, 2, 3, 10))
    return f"{text[: at.start()]}{abs(other) + (other == -int(at.group()))}{text[at.end() :]}"


def _word_changer(texts: Iterable[str]) -> Callable[[str, random.Random], str | None]:
    words = sorted({word for text in texts for word in _WORD.findall(text)})

    def change(text: str, rng: random.Random) -> str | None:
        places = [at for at in _WORD.finditer(text) if at.group() not in _SMALL]
        if not places:
            return None
        at = rng.choice(places)
        word = rng.choice(words)
        if word[:4] == at.group()[:4]:
            return None  # Another form of it, it may be.
        return f"{text[: at.start()]}{word}{text[at.end() :]}"

    return change


_SMALL: Final = frozenset(
    [
        "that",
        "this",
        "with",
        "from",
        "have",
        "does",
        "what",
        "when",
        "where",
        "which",
        "will",
        "would",
        "there",
        "their",
        "they",
        "them",
        "then",
        "than",
        "into",
        "your",
    ]
)


def _negated(text: str, _rng: random.Random) -> str | None:
    at = _VERB.search(text)
    words = text.split()
    if at is None or len(words) < 5:
        return None
    position = len(text[: at.end()].split())
    return " ".join((*words[: position + 1], "not", *words[position + 1 :]))


def _swapped(text: str, rng: random.Random) -> str | None:
    names = list(_NAME.finditer(text))
    if len(names) < 2 or names[0].group() == names[1].group():
        return None
    first, second = sorted(rng.sample(names, 2), key=lambda one: one.start())
    between = text[first.end() : second.start()]
    return f"{text[: first.start()]}{second.group()}{between}{first.group()}{text[second.end() :]}"


def _rows(path: Path) -> list[dict[str, Any]]:
    packed = path.read_bytes()
    text = gzip.decompress(packed) if path.suffix == ".gz" else packed
    return [json.loads(line) for line in text.splitlines()]
