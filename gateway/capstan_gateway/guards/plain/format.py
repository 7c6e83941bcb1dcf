"""Guards of type Format: whether a whole answer has the form that it must have, and in words what is wrong with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from capstan_contract.guards import FormatGuard, Source
from capstan_contract.re2_syntax import Unreadable
from capstan_gateway.guards.plain.expressions import Expression, compile_expression
from capstan_gateway.guards.plain.language import foreign, known_languages
from capstan_gateway.guards.plain.schema import Schema, read_schema
from capstan_gateway.guards.port import NOTHING, Cost, Finding, Scan

TOO_LONG: Final = "too-long"
NO_MATCH: Final = "pattern"
NOT_JSON: Final = "not-json"
SCHEMA: Final = "schema"
LANGUAGE: Final = "language"


@dataclass(frozen=True, slots=True)
class Lack:
    """What an answer lacks."""

    kind: str
    said: str
    """For the model that is asked again: it may name places of its answer, so it is for nobody else."""


@dataclass(frozen=True, slots=True)
class FormatDetector:
    """Finds that a text has not the form that is asked for; needs the whole of it."""

    schema: Schema | None
    expression: Expression | None
    most_characters: int | None
    languages: Sequence[str]

    @property
    def cost(self) -> Cost:
        """Cheap where only the length is looked at."""
        plain = self.schema is None and self.expression is None and not self.languages
        return Cost.CHEAP if plain else Cost.DEAR

    @property
    def reads_source(self) -> bool:
        """The form is that of what is written."""
        return True

    def scan(self, text: str, source: Source) -> Scan:  # noqa: ARG002 - the same for all
        """Give what is wrong, each as a finding of the whole text. Raises NotChecked where a schema asks too much."""
        found = tuple(Finding(lack.kind, 0, len(text)) for lack in self.lacks(text))
        return Scan(found) if found else NOTHING

    def lacks(self, text: str) -> Iterator[Lack]:
        """Say what is wrong with it; all that is set must hold."""
        if self.most_characters is not None and len(text) > self.most_characters:
            yield Lack(TOO_LONG, f"it has {len(text)} characters; at most {self.most_characters} are allowed")
        if self.expression is not None:
            data = text.encode("utf-8", "replace")
            if self.expression.compiled.fullmatch(data) is None:
                yield Lack(NO_MATCH, f"as a whole it must match the regular expression {self.expression.pattern}")
        if self.schema is not None and (lack := _of_schema(self.schema, text)) is not None:
            yield lack
        if self.languages and (language := foreign(text, self.languages)) is not None:
            wanted = " or ".join(self.languages)
            yield Lack(LANGUAGE, f"it is in the language `{language}`; it must be in {wanted} (ISO 639-1)")


def _of_schema(schema: Schema, text: str) -> Lack | None:
    try:
        value = orjson.loads(text.encode("utf-8", "replace"))
    except orjson.JSONDecodeError as error:
        return Lack(NOT_JSON, f"it must be a JSON document and nothing else ({error.msg} at character {error.pos})")
    fault = schema.fault(value)
    return None if fault is None else Lack(SCHEMA, f"{fault}, by the JSON schema that it must follow")


def build_format_detector(guard: FormatGuard) -> FormatDetector:
    """Make what a guard asks for. Raises ValueError where it cannot be enforced, with the reason."""
    if unknown := sorted(set(guard.languages) - (known_languages() if guard.languages else set())):
        raise ValueError(f"`languages` has {', '.join(unknown)}, which cannot be told from others")
    if guard.jsonSchema is None and guard.pattern is None and guard.maxCharacters is None and not guard.languages:
        raise ValueError("it says nothing of the form: set `jsonSchema`, `pattern`, `maxCharacters` or `languages`")
    try:
        expression = None if guard.pattern is None else compile_expression(guard.pattern, whole=True)
    except Unreadable as error:
        raise ValueError(f"`pattern` cannot be used: {error}") from error
    schema = None if guard.jsonSchema is None else read_schema(guard.jsonSchema)
    return FormatDetector(schema, expression, guard.maxCharacters, guard.languages)
