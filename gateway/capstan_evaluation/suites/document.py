"""A suite as it is written: the fields of its file, with their bounds. docs/evaluation-suites.md is about these."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from capstan_contract.entries import Document
from capstan_evaluation.suites.checks import MOST_CRITERION, Check, Text, printable
from capstan_evaluation.suites.patterns import check_pattern
from capstan_evaluation.suites.suite import DEFAULT_ALPHA, DEFAULT_KAPPA, DEFAULT_MARGIN, Message

MOST_CASES: Final = 50_000
MOST_CHARACTERS: Final = 1_000_000
"""Of one text."""
MOST_TURNS: Final = 32
MOST_MESSAGES: Final = 256
MOST_CHECKS: Final = 32
MOST_TAGS: Final = 32
MOST_REPEATS: Final = 100
MOST_SOURCES: Final = 32
MOST_TOKENS: Final = 1_000_000

LongText = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Prompt = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
Expected = Annotated[Text, Field(max_length=MOST_CHARACTERS)]
ShortText = Annotated[Text, Field(min_length=1, max_length=200)]
Path = Annotated[str, Field(min_length=1, max_length=200)]
COLUMNS: Final = (
    "id", "prompt", "messages", "turns", "system", "expected", "criteria", "tags", "weight", "repeats", "cluster",
)  # fmt: skip


def _as_list(value: object) -> object:
    if value is None:
        return None
    return tuple(value) if isinstance(value, list) else (value,)


def _turn(value: object) -> object:
    return {"prompt": value} if isinstance(value, str) else value


def _criterion(value: object) -> object:
    return {"criterion": value} if isinstance(value, str) else value


def _column(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class Written(Document):
    """A part of the file: nothing is converted, and what is not known is a fault."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class TurnDocument(Written):
    """One turn of a conversation; a mere text is its prompt."""

    prompt: Prompt
    expected: Expected | None = None


class CriterionDocument(Written):
    """What a judge looks at; a mere text is the criterion."""

    criterion: Annotated[str, Field(min_length=1, max_length=MOST_CRITERION)]
    name: ShortText | None = None
    """The scorer is then called `judge:NAME`."""
    turn: int | None = Field(default=None, ge=1)


class Settings(Written):
    """What may stand in `defaults`, with a file of data, and with a case: the nearest one counts, tags are added."""

    system: LongText | None = None
    """A message of the role `system` before all others."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    maxTokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    repeats: int | None = Field(default=None, ge=1, le=MOST_REPEATS)
    weight: float | None = Field(default=None, gt=0, le=1_000_000)
    cluster: ShortText | None = None
    tags: Annotated[tuple[ShortText, ...], Field(max_length=MOST_TAGS), BeforeValidator(_as_list)] = ()
    checks: Annotated[tuple[Check, ...], Field(max_length=MOST_CHECKS)] | None = None
    criteria: (
        Annotated[
            tuple[Annotated[CriterionDocument, BeforeValidator(_criterion)], ...],
            Field(max_length=MOST_CHECKS),
            BeforeValidator(_as_list),
        ]
        | None
    ) = None
    """Each is a check of type Judge, beside `checks`."""


class CaseDocument(Settings):
    """One case. It says what is asked in one of three ways."""

    id: ShortText | None = None
    prompt: Prompt | None = None
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=MOST_MESSAGES)] | None = None
    turns: (
        Annotated[
            tuple[Annotated[TurnDocument, BeforeValidator(_turn)], ...], Field(min_length=1, max_length=MOST_TURNS)
        ]
        | None
    ) = None
    expected: Annotated[tuple[Expected | None, ...], Field(max_length=MOST_TURNS), BeforeValidator(_as_list)] | None = (
        None
    )
    """Of the last turn; a list has one for each turn, or null."""

    @model_validator(mode="after")
    def _check_asked(self) -> Self:
        given = [name for name in ("prompt", "messages", "turns") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"needs one of prompt, messages, turns; it has {' and '.join(given) or 'none'}")
        if self.id is not None:
            printable(self.id)
        if self.messages is not None and self.messages[-1].role != "user":
            raise ValueError("`messages` must end with one of the role user")
        turns = len(self.turns or ("one",))
        if self.expected is not None and len(self.expected) not in (1, turns):
            raise ValueError(f"`expected` must be one text, or a list of {turns}, one for each turn")
        return self


class ColumnDocument(Written):
    """Where in a row a field is; a mere text is the column."""

    column: Path | None = None
    """Its name, or a path into it: `choices.0.turns`."""
    regex: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    """RE2: the last place of it that matches is taken, its first group if there is one."""
    template: LongText | None = None
    """In place of `column`: a text with `{column}` in it."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.column is None) == (self.template is None):
            raise ValueError("needs one of column, template")
        check_pattern("regex", self.regex)
        return self


Columns = dict[
    Literal[COLUMNS],  # type: ignore[valid-type]
    Annotated[
        tuple[Annotated[ColumnDocument, BeforeValidator(_column)], ...],
        Field(min_length=1, max_length=MOST_TAGS),
        BeforeValidator(_as_list),
    ],
]


class JoinDocument(Written):
    """Another file with more about the same rows."""

    file: Path
    format: Literal["JSONL", "CSV"] | None = None
    key: Path
    """The column that is equal in both."""
    columns: Columns
    """Fields that come from there. A row that it does not have gets none of them."""


class SampleDocument(Written):
    """So many rows by lot."""

    n: int = Field(ge=1, le=MOST_CASES)
    seed: int = 0


class DataDocument(Settings):
    """A file with a case in each row."""

    file: Path
    """Relative to the suite's file; in a ConfigMap, a key of it."""
    format: Literal["JSONL", "CSV"] | None = None
    """None: by the suffix of the file."""
    columns: Columns | None = None
    """None: a row has the fields of a case, under their names."""
    join: Annotated[tuple[JoinDocument, ...], Field(max_length=8), BeforeValidator(_as_list)] = ()
    idPrefix: Annotated[str, Field(max_length=100)] = ""
    limit: int | None = Field(default=None, ge=1, le=MOST_CASES)
    """The first ones only."""
    sample: SampleDocument | None = None

    @model_validator(mode="after")
    def _check_share(self) -> Self:
        if self.limit is not None and self.sample is not None:
            raise ValueError("takes limit or sample, not both")
        return self


class RubricDocument(Written):
    """See `suite.Rubric`."""

    version: ShortText = "1"
    scale: Literal["Binary", "Five"] = "Binary"
    instructions: Annotated[str, Field(max_length=20_000)] = ""
    showExpected: bool = True


class SuiteDocument(Written):
    """The file. Cases are read one by one, so that each fault says whose it is."""

    name: ShortText
    version: Annotated[Text, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=20_000)] = ""
    margin: float = Field(default=DEFAULT_MARGIN, ge=0, lt=1)
    alpha: float = Field(default=DEFAULT_ALPHA, gt=0, le=0.5)
    minimumKappa: float = Field(default=DEFAULT_KAPPA, ge=0, le=1)
    rubric: RubricDocument = RubricDocument()
    defaults: Settings = Settings()
    data: Annotated[tuple[DataDocument, ...], Field(max_length=MOST_SOURCES)] = ()
    cases: Annotated[tuple[Any, ...], Field(max_length=MOST_CASES)] = ()

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not self.data and not self.cases:
            raise ValueError("needs `cases`, or `data` to read them from")
        return self
