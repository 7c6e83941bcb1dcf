"""A manifest becomes a Resource, whatever is in it: faults are data, never exceptions."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from pydantic import BaseModel, ValidationError

from capstan_contract.places import field_path, unknown_field
from capstan_operator.api.kinds import LLMMODEL, Kind, Model, S
from capstan_operator.api.patterns import DNS_LABEL, HINTS
from capstan_operator.api.schema import faults_of, matches
from capstan_operator.names import ASKING
from capstan_operator.resources.resource import Fault, Manifest, ObjectKey, Resource

UnknownFields = Literal["refuse", "ignore"]
DEFAULT_NAMESPACE = "default"
LONGEST_NAMESPACE = 63
MOST_FAULTS = 20
"""More faults of one manifest than this are counted, not listed: they end in a condition's message."""


def parse_resource(kind: Kind[S], manifest: Manifest, *, unknown_fields: UnknownFields = "refuse") -> Resource[S]:
    """Parse an object of a kind. Never raises for bad content: every fault is one of `faults`, with the field's path.

    Messages say what is allowed and never repeat a value, because a value may be a secret in the wrong place.

    Fields that this release does not know are a fault in a manifest that somebody writes. In an object that an API
    server has sent they are not: its CRD may be of a newer release than this process.
    """
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    spec, faults = _validate(kind, manifest, unknown_fields)
    if fault := _namespace_fault(metadata.get("namespace")):
        spec, faults = None, (fault, *faults)
    status = manifest.get("status")
    return Resource(
        key=ObjectKey(_text(metadata.get("namespace")) or DEFAULT_NAMESPACE, _text(metadata.get("name"))),
        uid=_text(metadata.get("uid")),
        generation=_count(metadata.get("generation")),
        created=_text(metadata.get("creationTimestamp")),
        spec=spec,
        faults=faults,
        labels=labels_of(metadata),
        asked=asked_of(metadata),
        status=status if isinstance(status, dict) else {},
        deleting=bool(metadata.get("deletionTimestamp")),
        kind=kind.name,
    )


def parse_model(manifest: Manifest) -> Model:
    """Parse an LLMModel that somebody wrote; see `parse_resource`."""
    return parse_resource(LLMMODEL, manifest)


def labels_of(metadata: Manifest) -> Mapping[str, str]:
    """Give the labels of an object's metadata; none when they are not a map of strings."""
    labels = metadata.get("labels")
    if not isinstance(labels, dict):
        return MappingProxyType({})
    return MappingProxyType({key: value for key, value in labels.items() if isinstance(value, str)})


def asked_of(metadata: Manifest) -> Mapping[str, str]:
    """Give the annotations by which people ask for something; none when they are not strings."""
    annotations = metadata.get("annotations")
    if not isinstance(annotations, dict):
        return MappingProxyType({})
    found = {key: annotations.get(key) for key in ASKING}
    return MappingProxyType({key: value for key, value in found.items() if isinstance(value, str)})


def _validate(kind: Kind[S], manifest: Manifest, unknown_fields: UnknownFields) -> tuple[S | None, tuple[Fault, ...]]:
    metadata = manifest.get("metadata") or {}
    content = {key: value for key, value in manifest.items() if key != "status"}
    content["metadata"] = {"name": metadata.get("name")} if isinstance(metadata, dict) else metadata
    extra: Literal["ignore", "forbid"] = "ignore" if unknown_fields == "ignore" else "forbid"
    try:
        return kind.spec_of(kind.root.model_validate(content, extra=extra)), ()
    except ValidationError as error:
        return None, explain(error, kind.root)


def _namespace_fault(namespace: object) -> Fault | None:
    """Say what is wrong with a namespace: no API server judged that of a file, and names of files are made of it."""
    path = "metadata.namespace"
    if namespace is None or namespace == "":
        return None
    if not isinstance(namespace, str):
        return Fault(path, "must be a string")
    if len(namespace) > LONGEST_NAMESPACE:
        return Fault(path, f"must have at most {LONGEST_NAMESPACE} characters")
    return None if matches(DNS_LABEL, namespace) else Fault(path, f"must be {HINTS[DNS_LABEL]}")


def explain(error: ValidationError, root: type[BaseModel]) -> tuple[Fault, ...]:
    """Turn what pydantic found into paths and sentences, in the order of the fields."""
    faults = [found for entry in error.errors(include_url=False) for found in _explain_one(entry, root)]
    if len(faults) <= MOST_FAULTS:
        return tuple(faults)
    return (*faults[:MOST_FAULTS], Fault("", f"has {len(faults) - MOST_FAULTS} more faults"))


def _explain_one(entry: Mapping[str, Any], root: type[BaseModel]) -> Iterator[Fault]:
    location = entry["loc"]
    if location and location[-1] == "[key]":
        yield Fault(field_path(location[:-2]), f"has a key that is not allowed: {_sentence(entry, root)}")
        return
    path = field_path(location)
    faults = faults_of(entry)
    for relative, message in faults:
        yield Fault((path + relative).lstrip("."), message)
    if not faults:
        yield Fault(path, _sentence(entry, root))


def _sentence(entry: Mapping[str, Any], root: type[BaseModel]) -> str:
    """Say what is allowed, without the value that was given."""
    context = entry.get("ctx", {})
    match entry["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return unknown_field(str(entry["loc"][-1]), _class_at(entry["loc"][:-1], root).model_fields)
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            return f"must be {HINTS[pattern]}" if pattern in HINTS else f"must match {pattern}"
        case "string_type":
            given = entry.get("input")
            return "must be a string" + ("; put it in quotes" if isinstance(given, int | float) else "")
        case "int_type" | "int_from_float" | "int_parsing":
            return "must be a whole number" + (" without quotes" if isinstance(entry.get("input"), str) else "")
        case "enum" | "literal_error":
            return f"must be {_plain_or(context['expected'])}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "string_too_short":
            return "must not be empty" if context["min_length"] == 1 else f"needs {context['min_length']} characters"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "too_long":
            return f"must have at most {context['max_length']} items"
        case "too_short":
            return f"must have at least {context['min_length']} items"
        case "tuple_type":
            return "must be a list"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be an object"
        case kind:
            return f"is not valid ({kind})"


def _plain_or(expected: str) -> str:
    """`'a', 'b' or 'c'` without the quotes."""
    return expected.replace("'", "")


def _class_at(location: tuple[str | int, ...], root: type[BaseModel]) -> type[BaseModel]:
    """Follow a location through the classes; the last class on the way when it leaves them."""
    found = root
    for part in location:
        if isinstance(part, str) and part in found.model_fields:
            found = _model_in(found.model_fields[part].annotation) or found
    return found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
