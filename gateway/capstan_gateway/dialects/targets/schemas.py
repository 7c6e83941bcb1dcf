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
    It takes time in proportion to the schema, however many alternatives refer to the same.
    """
    if not isinstance(schema, dict) or not schema:
        return {"type": "object", "properties": {}}
    if schema.get("type") == "object" and "$ref" not in schema and not (_ABOUT | set(_ALTERNATIVES)) & schema.keys():
        return schema
    references = _References(schema)
    found: Document = {}
    for one in reversed(references.chain(schema)):
        found.update(one)
    left_out = (*_ABOUT, *_ALTERNATIVES, "$ref")
    flat = {key: value for key, value in found.items() if key not in left_out}
    flat["type"] = "object"
    for name in _ALTERNATIVES:
        _unite(flat, name, [references.chain(one) for one in _objects(found.get(name))])
    return flat


def _objects(value: Any) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


class _References:
    """Where the references of one schema lead; each is looked up once."""

    def __init__(self, root: Document) -> None:
        self._root = root
        self._found: dict[str, Document] = {}

    def chain(self, schema: Document) -> list[Document]:
        """Give a schema, the one that its reference leads to, and so on: what stands in an earlier one holds.

        A reference that comes again ends it.
        """
        chain, followed = [schema], set[str]()
        while len(followed) < _MOST_REFERENCES:
            reference = chain[-1].get("$ref")
            if not isinstance(reference, str) or reference in followed:
                break
            followed.add(reference)
            if reference not in self._found:
                self._found[reference] = _referred(self._root, reference)
            chain.append(self._found[reference])
        return chain


def _referred(root: Document, reference: str) -> Document:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _unite(flat: Document, name: str, branches: list[list[Document]]) -> None:
    """Put the properties of alternatives, each with what its references lead to, into the schema."""
    if not branches:
        return
    own = flat.get("properties")
    properties = dict(own) if isinstance(own, dict) else {}
    for given in _distinct("properties", branches):
        for key, value in given.items() if isinstance(given, dict) else ():
            properties.setdefault(key, value)
    flat["properties"] = properties
    wanted = [set(_names(given)) for given in _distinct("required", branches)]
    common = set.union(*wanted) if name == "allOf" else set.intersection(*wanted)
    required = [*_names(flat.get("required")), *sorted(common)]
    if required:
        flat["required"] = list(dict.fromkeys(required))


def _distinct(field: str, branches: list[list[Document]]) -> list[Any]:
    """Give what this field is in each of the alternatives; once what several have from the same reference."""
    values = [next((one[field] for one in chain if field in one), None) for chain in branches]
    return list({id(value): value for value in values}.values())


def _names(value: Any) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
