"""Whether a value has the form of a JSON Schema (draft 2020-12), and where not, within a budget of steps.

Which schemas can be used is in the contract (`capstan_contract/json_schemas.py`): all keywords that assert something
are looked at but those that are refused there, as are references to elsewhere; `format` and the contents of strings are
annotations, as in the draft. Patterns are RE2's. What cannot be decided within the steps raises: a schema of the
policy's can ask for more work than an answer is worth.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from capstan_contract.json_schemas import MOST_DEPTH, patterns_of, resolve, schema_fault
from capstan_gateway.guards.plain.expressions import Expression, compile_expression, search

MOST_STEPS: Final = 100_000
"""Values that are looked at for one answer: some 100 ms."""
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float), "integer": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip

Path = tuple[str | int, ...]


class NotChecked(Exception):
    """A value could not be checked within the budget."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a value is not as the schema says."""

    path: Path
    said: str
    """What it must be, such as `must be a string`."""

    def __str__(self) -> str:
        """Name the place and the fault."""
        return f"{written(self.path)} {self.said}"


def written(path: Path) -> str:
    """Give a place as people write it: `items[3].price`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[:200]
    return f"`{text.removeprefix('.')}`" if path else "the answer"


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that was read."""

    document: Any
    patterns: Mapping[str, Expression]

    def fault(self, value: Any, most: int = MOST_STEPS) -> Fault | None:
        """Give the first place where a value is not as it must be; None when it is. Raises NotChecked."""
        try:
            return _Check(self, most).fault(self.document, value, (), 0)
        except RecursionError as error:
            raise NotChecked("the answer is nested too deep") from error


def read_schema(document: Any) -> Schema:
    """Read a schema. Raises ValueError, with words for whoever has written it."""
    if (fault := schema_fault(document)) is not None:
        place, said = fault
        raise ValueError(f"`schema{place}` {said}")
    patterns = {pattern: compile_expression(pattern, whole=True) for pattern in patterns_of(document)}
    return Schema(document, patterns)


def frozen(value: Any) -> Any:
    """Give a value such that only what is equal in JSON is equal: 1 is 1.0, and not true."""
    if isinstance(value, dict):
        return frozenset((name, frozen(part)) for name, part in value.items())
    if isinstance(value, list):
        return tuple(map(frozen, value))
    return (bool, value) if isinstance(value, bool) else value


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


@dataclass(slots=True)
class _Check:
    """One value that is checked."""

    schema: Schema
    left: int
    _known: dict[int, frozenset[Any]] = field(default_factory=dict)

    def take(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise NotChecked("the schema asks for too many steps")

    def fits(self, schema: Any, value: Any, path: Path, depth: int) -> bool:
        return self.fault(schema, value, path, depth) is None

    def fault(self, schema: Any, value: Any, path: Path, depth: int) -> Fault | None:
        self.take()
        if isinstance(schema, bool):
            return None if schema else Fault(path, "must not be there")
        if depth > 2 * MOST_DEPTH:
            raise NotChecked("the answer, or the schema, is nested too deep")
        for look in _LOOKS:
            fault = look(self, schema, value, path, depth + 1)
            if fault is not None:
                return fault
        return None

    def matches(self, pattern: str, text: str) -> bool:
        data = text.encode("utf-8", "replace")
        self.take(1 + len(data) // 256)
        return search(self.schema.patterns[pattern].compiled, data, 0) is not None

    def choices(self, values: Sequence[Any]) -> frozenset[Any]:
        known = self._known.get(id(values))
        if known is None:
            self.take(len(values) // 8)
            known = self._known[id(values)] = frozenset(map(frozen, values))
        return known


def _plain(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:
    types = schema.get("type")
    names: list[str] = types if isinstance(types, list) else [] if types is None else [types]
    if types is not None and not any(_is_a(value, name) for name in names):
        return Fault(path, f"must be of type {' or '.join(names)}")
    if "enum" in schema and frozen(value) not in check.choices(schema["enum"]):
        return Fault(path, "must be one of the values that are listed")
    if "const" in schema and frozen(value) != frozen(schema["const"]):
        return Fault(path, "must be the value that is given")
    if "$ref" in schema:
        return check.fault(resolve(check.schema.document, schema["$ref"]), value, path, depth)
    return None


def _combined(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:
    for way in schema.get("allOf", ()):
        if (fault := check.fault(way, value, path, depth)) is not None:
            return fault
    if "anyOf" in schema and not any(check.fits(way, value, path, depth) for way in schema["anyOf"]):
        return Fault(path, "must have one of several forms, and has none")
    if "oneOf" in schema and sum(check.fits(way, value, path, depth) for way in schema["oneOf"]) != 1:
        return Fault(path, "must have exactly one of several forms")
    if "not" in schema and check.fits(schema["not"], value, path, depth):
        return Fault(path, "must not have a form that it has")
    if "if" in schema:
        then = schema.get("then" if check.fits(schema["if"], value, path, depth) else "else", True)
        return check.fault(then, value, path, depth)
    return None


def _number(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:  # noqa: ARG001
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    for name, kept, said in _BOUNDS:
        if name in schema and not kept(value, schema[name]):
            return Fault(path, f"must be {said} {schema[name]}")
    return None


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    times = value / of
    return math.isfinite(times) and abs(times - round(times)) < 1e-9 * max(1.0, abs(times))


_BOUNDS: Final[tuple[tuple[str, Callable[[float, float], bool], str], ...]] = (
    ("minimum", lambda value, bound: value >= bound, "at least"),
    ("maximum", lambda value, bound: value <= bound, "at most"),
    ("exclusiveMinimum", lambda value, bound: value > bound, "more than"),
    ("exclusiveMaximum", lambda value, bound: value < bound, "less than"),
    ("multipleOf", _is_multiple, "a multiple of"),
)


def _sized(count: int, schema: Mapping[str, Any], of: str, path: Path, what: str) -> Fault | None:
    if count < schema.get(f"min{of}", 0):
        return Fault(path, f"must have at least {schema[f'min{of}']} {what}")
    if count > schema.get(f"max{of}", count):
        return Fault(path, f"must have at most {schema[f'max{of}']} {what}")
    return None


def _string(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:  # noqa: ARG001
    if not isinstance(value, str):
        return None
    if "pattern" in schema and not check.matches(schema["pattern"], value):
        return Fault(path, f"must match {schema['pattern'][:200]}")
    return _sized(len(value), schema, "Length", path, "characters")


def _array(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:
    if not isinstance(value, list):
        return None
    first = schema.get("prefixItems", ())
    for number, item in enumerate(value):
        inner = first[number] if number < len(first) else schema.get("items", True)
        if inner is not True and (fault := check.fault(inner, item, (*path, number), depth)) is not None:
            return fault
    if schema.get("uniqueItems") is True:
        check.take(len(value))
        if len(set(map(frozen, value))) < len(value):
            return Fault(path, "must have no item twice")
    if "contains" in schema:
        there = sum(check.fits(schema["contains"], item, path, depth) for item in value)
        if not schema.get("minContains", 1) <= there <= schema.get("maxContains", there):
            return Fault(path, "must have so many items of a form as is said")
    return _sized(len(value), schema, "Items", path, "items")


def _object(check: _Check, schema: Mapping[str, Any], value: Any, path: Path, depth: int) -> Fault | None:
    if not isinstance(value, dict):
        return None
    needed = [*schema.get("required", ())]
    for name, names in schema.get("dependentRequired", {}).items():
        needed.extend(names if name in value else ())
    check.take(len(needed) // 8)
    for name in needed:
        if name not in value:
            return Fault(path, f"must have `{name}`")
    for name, inner in schema.get("dependentSchemas", {}).items():
        if name in value and (fault := check.fault(inner, value, path, depth)) is not None:
            return fault
    for name, part in value.items():
        for inner in _of_property(check, schema, name):
            if (fault := check.fault(inner, part, (*path, name), depth)) is not None:
                return fault
        if "propertyNames" in schema and not check.fits(schema["propertyNames"], name, path, depth):
            return Fault((*path, name), "must not be called so")
    return _sized(len(value), schema, "Properties", path, "properties")


def _of_property(check: _Check, schema: Mapping[str, Any], name: str) -> Iterator[Any]:
    known = False
    if name in schema.get("properties", {}):
        known = True
        yield schema["properties"][name]
    for pattern, inner in schema.get("patternProperties", {}).items():
        if check.matches(pattern, name):
            known = True
            yield inner
    if not known:
        yield schema.get("additionalProperties", True)


_LOOKS: Final = (_plain, _number, _string, _array, _object, _combined)
