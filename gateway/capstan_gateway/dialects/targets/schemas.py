"""The schema of a tool's arguments, as strict APIs take it.

Anthropic wants an object, and neither alternatives nor a reference at its top; tools of MCP servers have all of these
(BerriAI/litellm issue 24121, anomalyco/opencode issue 12295).
"""

from typing import Any, Final

from capstan_gateway.dialects.fields import Document

_ABOUT: Final = frozenset(("$schema", "$id"))
_ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
_MOST_REFERENCES: Final = 8
"""How often a reference at the top may lead to another one."""


def fitting_schema(schema: Any) -> Document:
    """Give the schema as an object with properties of its own; the very same one where it is that.

    Of alternatives at the top the properties are united: what each of them requires is required, of `allOf` what any
    does. Arguments that one of the alternatives would forbid are then allowed: a tool checks its own.
    """
    if not isinstance(schema, dict) or not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type") == "object" and "$ref" not in schema and not (_ABOUT | set(_ALTERNATIVES)) & schema.keys():
        return schema
    found = _followed(schema)
    flat = {key: value for key, value in found.items() if key not in _ABOUT and key not in _ALTERNATIVES}
    flat["type"] = "object"
    for name in _ALTERNATIVES:
        _unite(flat, name, [_followed(one, schema) for one in _objects(found.get(name))])
    return flat


def _objects(value: Any) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _followed(schema: Document, root: Document | None = None) -> Document:
    """Give the schema that a reference at the top leads to, with what stands beside it; itself where none does."""
    root = schema if root is None else root
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema.get("$ref"), str):
            break
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**_referred(root, schema["$ref"]), **beside}
    return {key: value for key, value in schema.items() if key != "$ref"}


def _referred(root: Document, reference: str) -> Document:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _unite(flat: Document, name: str, branches: list[Document]) -> None:
    """Put the properties of alternatives into the schema."""
    if not branches:
        return
    own = flat.get("properties")
    properties = dict(own) if isinstance(own, dict) else {}
    for branch in branches:
        given = branch.get("properties")
        for key, value in given.items() if isinstance(given, dict) else ():
            properties.setdefault(key, value)
    flat["properties"] = properties
    wanted = [set(_names(branch.get("required"))) for branch in branches]
    common = set.union(*wanted) if name == "allOf" else set.intersection(*wanted)
    required = [*_names(flat.get("required")), *sorted(common)]
    if required:
        flat["required"] = list(dict.fromkeys(required))


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
