"""What a case looks at in an answer: one class for each type of check, as a suite writes it.

Here is what may be said; what is done with it is in `scorers` and `judges`.
"""

import unicodedata
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from capstan_contract.entries import Document, is_empty, is_none
from capstan_evaluation.suites.patterns import check_pattern

MOST_VALUES: Final = 100
MOST_NAME: Final = 100
MOST_PATTERN: Final = 2_000
MOST_CRITERION: Final = 4_000
MOST_FUNCTION_SECONDS: Final = 600.0


def as_text(value: object) -> object:
    """Give what YAML and JSON have read as a number or a truth as the text that stands for it; all else as it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def printable(value: str) -> str:
    """Refuse names that a terminal or a report would do something with."""
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable, without space at its ends")
    return value


Text = Annotated[str, BeforeValidator(as_text)]
Name = Annotated[str, Field(min_length=1, max_length=MOST_NAME)]
Pattern = Annotated[str, Field(min_length=1, max_length=MOST_PATTERN)]
Values = Annotated[tuple[Text, ...], Field(max_length=MOST_VALUES)]


class CheckBase(Document):
    """What every check has."""

    name: Name | None = Field(default=None, exclude_if=is_none)
    """Of the scorer, in reports; None: that of its type, see `name_of`."""
    turn: int | None = Field(default=None, ge=1, exclude_if=is_none)
    """Which answer of a case with several turns, from 1; None: the last one."""

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if self.name is not None:
            printable(self.name)
        return self


class Extracting(CheckBase):
    """A check of the answer, or of a part of it."""

    extract: Pattern | None = Field(default=None, exclude_if=is_none)
    """RE2: the last place that matches is looked at, its first group if there is one. No match: not passed."""

    @model_validator(mode="after")
    def _check_extract(self) -> Self:
        check_pattern("extract", self.extract)
        return self


class Exact(Extracting):
    """The answer is the expected one, space at both ends aside."""

    type: Literal["Exact"]
    values: Values = Field(default=(), exclude_if=is_empty)
    """What is right, in place of `expected`."""


class Normalised(Extracting):
    """As Exact, without regard to case, punctuation, English articles and the amount of space."""

    type: Literal["Normalised"]
    values: Values = Field(default=(), exclude_if=is_empty)


class Contains(CheckBase):
    """Texts that the answer must and must not contain; `expected` where it says none."""

    type: Literal["Contains"]
    all: Values = Field(default=(), exclude_if=is_empty)
    any: Values = Field(default=(), exclude_if=is_empty)
    none: Values = Field(default=(), exclude_if=is_empty)
    caseSensitive: bool = False

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if any_empty := [name for name in ("all", "any", "none") if not all(getattr(self, name))]:
            raise ValueError(f"`{any_empty[0]}` must have no empty texts: every answer contains those")
        return self


class Regex(CheckBase):
    """Whether an expression (RE2) matches somewhere in the answer."""

    type: Literal["Regex"]
    pattern: Pattern
    mustMatch: bool = True

    @model_validator(mode="after")
    def _check_pattern(self) -> Self:
        check_pattern("pattern", self.pattern)
        return self


class Numeric(Extracting):
    """The number that the answer ends with is the expected one, give or take."""

    type: Literal["Numeric"]
    value: Text | None = Field(default=None, exclude_if=is_none)
    """What is right, in place of `expected`."""
    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    relativeTolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Of the expected number, such as 0.01. The larger of both counts."""


class JsonSchema(CheckBase):
    """The answer is JSON, alone or in a fenced block, and of a schema."""

    type: Literal["JsonSchema"]
    jsonSchema: dict[str, JsonValue] = Field(default_factory=dict, exclude_if=is_empty)
    """Only what it holds itself is followed (`#/$defs/...`). Empty: any JSON."""


class Refusal(CheckBase):
    """Whether the model refuses: in words, in the API's own field, or by its filter."""

    type: Literal["Refusal"]
    mustRefuse: bool = True


class Similarity(CheckBase):
    """How near the answer is to the expected one, by a model of task `embed`."""

    type: Literal["Similarity"]
    values: Values = Field(default=(), exclude_if=is_empty)
    """What is right, in place of `expected`: the nearest one counts."""
    atLeast: float | None = Field(default=None, ge=-1, le=1, exclude_if=is_none)
    """Cosine from which it passes. None: the cosine itself is the score, what is below 0 as 0."""


class Length(CheckBase):
    """How long the answer is."""

    type: Literal["Length"]
    minCharacters: int | None = Field(default=None, ge=0, exclude_if=is_none)
    maxCharacters: int | None = Field(default=None, ge=0, exclude_if=is_none)
    minWords: int | None = Field(default=None, ge=0, exclude_if=is_none)
    maxWords: int | None = Field(default=None, ge=0, exclude_if=is_none)

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        bounds = ("minCharacters", "maxCharacters", "minWords", "maxWords")
        if all(getattr(self, bound) is None for bound in bounds):
            raise ValueError(f"needs one of {', '.join(bounds)}")
        return self


class Latency(CheckBase):
    """How long the answer took."""

    type: Literal["Latency"]
    maxSeconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, exclude_if=is_none)
    maxFirstTokenSeconds: float | None = Field(default=None, gt=0, allow_inf_nan=False, exclude_if=is_none)

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.maxSeconds is None and self.maxFirstTokenSeconds is None:
            raise ValueError("needs one of maxSeconds, maxFirstTokenSeconds")
        if self.turn is not None:
            raise ValueError("`turn` is not for Latency: what an answer took is that of the last turn")
        return self


class Function(CheckBase):
    """A Python function of the user, installed under the entry point group `capstan.scorers`."""

    type: Literal["Function"]
    function: Name
    """Its name in that group."""
    parameters: dict[str, JsonValue] = Field(default_factory=dict, exclude_if=is_empty)
    timeoutSeconds: float = Field(default=10.0, gt=0, le=MOST_FUNCTION_SECONDS)


class Judge(CheckBase):
    """A model judges the answer by one criterion."""

    type: Literal["Judge"]
    criterion: str = Field(min_length=1, max_length=MOST_CRITERION)
    """In words: "The answer is polite."."""


class Pairwise(CheckBase):
    """A model says whether the answer is better than the baseline's: asked in both orders."""

    type: Literal["Pairwise"]
    criterion: str = Field(default="", max_length=MOST_CRITERION, exclude_if=is_empty)
    """Better in what, in words. Empty: as an answer to what was asked."""


Check = Annotated[
    Exact
    | Normalised
    | Contains
    | Regex
    | Numeric
    | JsonSchema
    | Refusal
    | Similarity
    | Length
    | Latency
    | Function
    | Judge
    | Pairwise,
    Field(discriminator="type"),
]
TYPES: Final = (
    "Exact", "Normalised", "Contains", "Regex", "Numeric", "JsonSchema", "Refusal", "Similarity", "Length", "Latency",
    "Function", "Judge", "Pairwise",
)  # fmt: skip
JUDGED: Final = (Judge, Pairwise)
"""What a model judges: asked behind all else."""
_NAMES: Final = {"JsonSchema": "jsonSchema"}


def name_of(check: CheckBase) -> str:
    """Give a check's name in scores and reports: `numeric`, `judge:polite`, `exact@1` for the first turn."""
    if check.name is not None:
        return check.name
    kind: str = check.type  # type: ignore[attr-defined]
    name = _NAMES.get(kind, kind.lower())
    if isinstance(check, Judge) or (isinstance(check, Pairwise) and check.criterion):
        name = f"{name}:{slug(check.criterion)}"
    if isinstance(check, Function):
        name = f"{name}:{check.function}"
    return name if check.turn is None else f"{name}@{check.turn}"


def slug(text: str, most: int = 40) -> str:
    """Give the first words of a text as a name: `the-answer-is-polite`."""
    plain = unicodedata.normalize("NFKC", text).lower()
    words = "".join(char if char.isalnum() else " " for char in plain).split()
    name = ""
    for word in words:
        longer = f"{name}-{word}" if name else word[:most]
        if len(longer) > most:
            break
        name = longer
    return name or "criterion"


def needs_expected(check: Any) -> bool:
    """Whether a check compares with the `expected` of its case."""
    if isinstance(check, Exact | Normalised | Similarity):
        return not check.values
    if isinstance(check, Contains):
        return not (check.all or check.any or check.none)
    return isinstance(check, Numeric) and check.value is None
