"""YAML documents as plain JSON data, read as strictly as kubectl reads them, with the line of every field.

Differences to `yaml.safe_load`: a repeated key is a fault, dates and 1:30 stay strings, nothing but JSON comes out, and
documents that grow without bound (aliases of aliases) or nest too deep are refused. Pure.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MOST_NODES = 200_000
"""Values in one document, aliases counted as often as they are used."""
MOST_LEVELS = 100


class YamlFault(Exception):
    """Text that is not a manifest's YAML; `line` is counted from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True)
class YamlDocument:
    """One document: its data, and on which line each field is, by path (`spec.engine.env[0].name`)."""

    number: int
    line: int
    data: Any
    lines: dict[str, int] = field(default_factory=dict)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Knows null, true, integers and floats; everything else is a string."""


def _resolvers() -> dict[str, list[tuple[str, Any]]]:
    unwanted = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
    return {
        first: [(tag, pattern) for tag, pattern in known if tag not in unwanted]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _resolvers()


def read_yaml(text: str) -> Iterator[YamlDocument]:
    """Give the documents of a text, empty ones left out but counted. Raises YamlFault at the first fault."""
    loader = _Loader(text)
    number = 0
    try:
        while loader.check_node():
            number += 1
            node = loader.get_node()
            builder = _Builder()
            data = builder.build(node, "", 0)
            if data is not None:
                yield YamlDocument(number, node.start_mark.line + 1, data, builder.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise YamlFault(mark.line + 1 if mark else 1, f"is not YAML: {problem}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise YamlFault(
            _line_of(text, getattr(error, "position", 0)), "is not YAML: a character is not allowed"
        ) from None
    except RecursionError:
        raise YamlFault(1, f"nests deeper than {MOST_LEVELS} levels") from None
    finally:
        loader.dispose()


_HALVES = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


def json_as_yaml(text: str) -> str:
    """Rewrite what JSON has and YAML has not, line by line: tabs between values, and characters in two halves."""

    def join(found: re.Match[str]) -> str:
        high, low = int(found[2], 16), int(found[3], 16)
        return f"{found[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"

    return _HALVES.sub(join, text.replace("\t", " "))


def _line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _Builder:
    """Builds one document's data, and notes the lines on the way."""

    def __init__(self) -> None:
        self.lines: dict[str, int] = {}
        self._nodes = 0

    def build(self, node: yaml.Node, path: str, level: int) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > MOST_NODES:
            raise YamlFault(line, f"has more than {MOST_NODES} values, with aliases written out")
        if level > MOST_LEVELS:
            raise YamlFault(line, f"nests deeper than {MOST_LEVELS} levels")
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, level)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, f"{path}[{index}]", level + 1) for index, item in enumerate(node.value)]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: str, level: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += self._merged(value_node, path, level)
                continue
            key = _key(key_node)
            if key in result:
                raise YamlFault(line, f"has the key `{key}` twice in `{path or 'the document'}`")
            where = f"{path}.{key}" if path else key
            self.lines[where] = line
            result[key] = self.build(value_node, where, level + 1)
        for source in merged:
            result = source | result
        return result

    def _merged(self, node: yaml.Node, path: str, level: int) -> list[dict[str, Any]]:
        """Give the mappings that `<<` names, the one that wins first."""
        value = self.build(node, path, level + 1)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise YamlFault(node.start_mark.line + 1, "`<<` must name a mapping")
        return sources


def _key(node: yaml.Node) -> str:
    """Give a key as JSON has it: always a string."""
    if not isinstance(node, yaml.ScalarNode):
        raise YamlFault(node.start_mark.line + 1, "has a key that is not a string")
    value = _scalar(node)
    return value if isinstance(value, str) else json.dumps(value)


_TAG = "tag:yaml.org,2002:"


def _scalar(node: yaml.Node) -> Any:
    line, text = node.start_mark.line + 1, str(node.value)
    match node.tag.removeprefix(_TAG):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() in ("yes", "true", "on", "y")
        case "int":
            return _integer(text, line)
        case "float":
            return _float(text, line)
        case tag:
            raise YamlFault(line, f"has the tag {tag if tag.startswith('!') else '!!' + tag}, which JSON has not")


def _integer(text: str, line: int) -> int | str:
    """Read 10, 0x1f, 0b11, 017 and 1_000; 1:30 is a string."""
    plain = text.replace("_", "")
    if ":" in plain:
        return text
    sign, digits = (-1, plain[1:]) if plain.startswith("-") else (1, plain.removeprefix("+"))
    base = 16 if digits.startswith("0x") else 2 if digits.startswith("0b") else 8 if digits[:1] == "0" else 10
    if len(digits) > 64:
        raise YamlFault(line, "has a number that is too long")
    return sign * int(digits, base)


def _float(text: str, line: int) -> int | float | str:
    """Read a number; 1.0 is the integer 1, as after a trip through JSON."""
    plain = text.replace("_", "").lower()
    if ":" in plain:
        return text
    try:
        number = float(plain)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise YamlFault(line, "has a number that JSON has not")
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
