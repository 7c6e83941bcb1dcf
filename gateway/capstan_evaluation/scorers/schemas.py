"""Whether an answer is JSON of a schema. Pure; only this file knows jsonschema.

Answers are hostile: expressions of schemas are those of RE2 (jsonschema applies some of its own where both
`patternProperties` and `unevaluatedProperties` are there, so that is not allowed), equal items are found by hash,
references lead to the schema itself and nowhere else, and there is a bound on how much is looked at. A value that goes
beyond it does not fit.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from jsonschema import exceptions, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from capstan_contract.re2_syntax import Unreadable
from capstan_evaluation.records import Answer, Score
from capstan_evaluation.scorers.texts import passed, text_of
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import name_of
from capstan_evaluation.suites.patterns import compiled, matches
from capstan_evaluation.suites.suite import Case

MOST_STEPS: Final = 200_000
"""Keywords of the schema applied to values: some seconds of a core."""
_FENCED: Final = re.compile(r"```[A-Za-z0-9]{0,20}[ \t]*\n(.*?)\n?```", re.DOTALL)


class _Exhausted(Exception):
    """No step is left."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON of a schema, alone or in one fenced block."""

    check: checks.JsonSchema
    _validator: "_Validator" = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compile the schema once."""
        object.__setattr__(self, "_validator", _Validator(self.check.jsonSchema))

    @property
    def name(self) -> str:
        """See `Scorer`."""
        return name_of(self.check)

    def score(self, case: Case, answer: Answer) -> Score:  # noqa: ARG002
        """See `Scorer`."""
        try:
            value = json_in(text_of(answer, self.check.turn))
        except ValueError:
            return passed(self.name, False, "is no JSON")
        fault = self._validator.fault(value)
        return passed(self.name, fault is None, fault or "")


def json_in(text: str) -> Any:
    """Give the JSON value that a text is, alone or in its only fenced block. Raises ValueError."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        blocks = _FENCED.findall(text)
        if len(blocks) != 1:
            raise ValueError("is no JSON, and has not one fenced block") from None
        return orjson.loads(blocks[0])


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a schema; None when it can be used."""
    kind = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
        _check_patterns(schema)
        if _has(schema, "patternProperties") and _has(schema, "unevaluatedProperties"):
            return "must not have both `patternProperties` and `unevaluatedProperties`"
        _Validator(schema).fault(None)
    except exceptions.SchemaError as error:
        where = ".".join(map(str, error.absolute_path))
        return f"is no JSON Schema{f', at {where}' if where else ''}"
    except Unreadable as error:
        return f"has an expression that cannot be used: {error}"
    except (Unresolvable, RecursionError, ValueError):
        return "has a `$ref` that leads nowhere within the schema"
    return None


class _Validator:
    """A schema that is applied within bounds."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        kind = validators.validator_for(schema, default=validators.Draft202012Validator)
        own: dict[str, Any] = {**kind.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique}
        if "patternProperties" in own:
            own["patternProperties"] = _pattern_properties
        if "additionalProperties" in own:
            own["additionalProperties"] = _additional_properties
        counted = {keyword: self._counted(apply) for keyword, apply in own.items()}
        # NB: without a registry of ours jsonschema fetches what a `$ref` names.
        self._validator = validators.extend(kind, counted)(dict(schema), registry=Registry())
        self._left = 0

    def fault(self, value: Any) -> str | None:
        """Say where a value does not fit first; None when it does. Raises Unresolvable for a faulty schema."""
        self._left = MOST_STEPS
        try:
            error = next(self._validator.iter_errors(value), None)
        except (_Exhausted, RecursionError):
            return "is too much, or nests too deep, to be looked at"
        if error is None:
            return None
        where = ".".join(map(str, error.absolute_path))[:100]
        return f"does not fit `{error.validator}`{f' at {where}' if where else ''}"

    def _counted(self, apply: Any) -> Any:
        def within(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._left -= 1
            if self._left < 0:
                raise _Exhausted
            return apply(validator, value, instance, schema) or iter(())

        return within


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if isinstance(instance, str) and not matches(pattern, instance):
        yield exceptions.ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    for pattern, inner in patterns.items() if isinstance(instance, dict) else ():
        for name, value in instance.items():
            if matches(pattern, name):
                yield from validator.descend(value, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, value in instance.items():
        if name in known or any(matches(pattern, name) for pattern in patterns):
            continue
        if inner is False:
            yield exceptions.ValidationError("is not a property", path=(name,))
        else:
            yield from validator.descend(value, inner, path=name)


def _unique(validator: Any, unique: Any, instance: Any, schema: Any) -> Iterator[Any]:  # noqa: ARG001
    if not unique or not isinstance(instance, list):
        return
    seen = {json.dumps(_as_compared(item), sort_keys=True) for item in instance}
    if len(seen) < len(instance):
        yield exceptions.ValidationError("has an item twice")


def _as_compared(value: Any) -> Any:
    """Give a value such that 1 and 1.0 are the same, as JSON Schema has it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_as_compared(item) for item in value]
    return {key: _as_compared(item) for key, item in value.items()} if isinstance(value, dict) else value


def _has(schema: Any, keyword: str) -> bool:
    """Whether a schema, or a part of it, has a keyword."""
    if isinstance(schema, list):
        return any(_has(item, keyword) for item in schema)
    return isinstance(schema, dict) and (keyword in schema or any(_has(item, keyword) for item in schema.values()))


def _check_patterns(schema: Any) -> None:
    """Compile every expression of a schema. Raises Unreadable."""
    if isinstance(schema, list):
        for item in schema:
            _check_patterns(item)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            compiled(value)
        if key == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                compiled(pattern)
        _check_patterns(value)
