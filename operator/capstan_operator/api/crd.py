"""The models as CustomResourceDefinitions: structural OpenAPI v3."""

import hashlib
import inspect
import json
from typing import Any

from capstan_contract.names import CATEGORY, GROUP, VERSION
from capstan_operator.api.kinds import Column, Kind
from capstan_operator.api.schema import Part, validation
from capstan_operator.names import CRD_RELEASE_ANNOTATION, CRD_SCHEMA_ANNOTATION, RELEASE
from capstan_operator.resources.api_resource import CRDS

Schema = dict[str, Any]


def build_crd(kind: Kind[Any]) -> Schema:
    """Build the CustomResourceDefinition of a kind."""
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": _subresources(kind),
        "additionalPrinterColumns": [_column(column) for column in kind.columns],
        "schema": {"openAPIV3Schema": root_schema(kind)},
    }
    names: Schema = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "categories": [CATEGORY],
        "shortNames": list(kind.short_names),
    }
    spec: Schema = {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]}
    annotations = {CRD_RELEASE_ANNOTATION: RELEASE, CRD_SCHEMA_ANNOTATION: _hash(spec)}
    return {
        "apiVersion": CRDS.api_version,
        "kind": CRDS.kind,
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": annotations},
        "spec": spec,
    }


def _hash(spec: Schema) -> str:
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def root_schema(kind: Kind[Any]) -> Schema:
    """Build the schema of the whole resource. Of metadata, only rules of the root may speak."""
    metadata = kind.root.model_fields["metadata"].annotation
    rules = metadata.rules if isinstance(metadata, type) and issubclass(metadata, Part) else ()
    about_metadata = [{"rule": rule.cel, "message": f"metadata{rule.field_path} {rule.message}"} for rule in rules]
    validations = [*about_metadata, *(validation(rule) for rule in kind.root.rules)]
    return {
        "type": "object",
        "description": _one_line(inspect.getdoc(kind.root) or ""),
        "required": ["spec"],
        # NB: the API server drops an empty list, and whoever compares (Argo CD) would see a difference for ever.
        **({"x-kubernetes-validations": validations} if validations else {}),
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this schema."},
            "kind": {"type": "string", "description": "Kind of the resource."},
            "metadata": {"type": "object"},
            "spec": part_schema(kind.root, "spec"),
            "status": structural(kind.status),
        },
    }


def part_schema(root: type[Part], field: str) -> Schema:
    """Build the schema of one field of the resource."""
    whole = structural(root)
    schema: Schema = whole["properties"][field]
    return schema


def structural(part: type[Part]) -> Schema:
    """Build the structural schema of a class: no references, no null, no titles."""
    document = part.model_json_schema()
    definitions = document.pop("$defs", {})
    return _structural(document, definitions)


def _structural(schema: Schema, definitions: Schema) -> Schema:
    result = _inlined(schema, definitions)
    result.pop("title", None)
    if (only := result.pop("const", None)) is not None:
        result["enum"] = [only]
    if result.get("default") in (None, [], {}):
        result.pop("default", None)
    if isinstance(result.get("description"), str):
        result["description"] = _one_line(result["description"])
    if "properties" in result:
        result.pop("additionalProperties", None)
        required = result.get("required", [])
        result["properties"] = {
            name: _with_default(_structural(field, definitions), field, required=name in required)
            for name, field in result["properties"].items()
        }
    elif isinstance(result.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(result["additionalProperties"], definitions)
    if "items" in result:
        result["items"] = _structural(result["items"], definitions)
        result.setdefault("x-kubernetes-list-type", "atomic")
    if result.get("type") == "integer":
        result["format"] = "int64"
    if "x-kubernetes-validations" in result:
        rules = result["x-kubernetes-validations"]
        result["x-kubernetes-validations"] = [{key: rule[key] for key in _RULE if key in rule} for rule in rules]
    return _ordered(result)


_RULE = ("rule", "message", "fieldPath")
_ORDER = ("type", "format", "description", "default", "enum", "required", "x-kubernetes-validations")


def _inlined(schema: Schema, definitions: Schema) -> Schema:
    """Replace a reference, or a choice between something and null, by the thing itself."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "$ref")}
    if len(choices) == 1:
        return _inlined(choices[0], definitions) | rest
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].removeprefix("#/$defs/")], definitions) | rest
    return rest


def _with_default(result: Schema, field: Schema, *, required: bool) -> Schema:
    """Let a part that may be left out, and is then not null, be there with the defaults of its fields.

    NB: the defaults are spelled out, because the API server checks the rules against a default as it is written.
    """
    if required or "anyOf" in field or "$ref" not in field or result.get("type") != "object":
        return result
    return _ordered(result | {"default": _defaults(result)})


def _defaults(schema: Schema) -> Schema:
    return {name: field["default"] for name, field in schema["properties"].items() if "default" in field}


def _ordered(schema: Schema) -> Schema:
    return dict(sorted(schema.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER)))


def _subresources(kind: Kind[Any]) -> Schema:
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return {"status": {}} | ({"scale": scale} if kind.scales else {})


def _column(column: Column) -> Schema:
    entry: Schema = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        entry["description"] = column.description
    return entry | ({"priority": 1} if column.wide else {})


def _one_line(text: str) -> str:
    return " ".join(text.split())
