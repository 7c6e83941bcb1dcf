"""The schemas of the Open Responses specification of 2026-04-24, as the package openresponses-py ships them.

Two places are held to OpenAI's form instead, because every client reads that: events of reasoning are called
`response.reasoning_text.*`, not `response.reasoning.*`, and the schema in `text.format` is repeated, not null.
"""

import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

Document = dict[str, Any]
FILE: Final = "openresponses/openapi/2026-04-24.json"
_URN: Final = "urn:open-responses"
_RENAMED: Final = {
    "response.reasoning_text.delta": "response.reasoning.delta",
    "response.reasoning_text.done": "response.reasoning.done",
}


def specification() -> Path:
    """Give the file of the specification."""
    return Path(str(distribution("openresponses-py").locate_file(FILE)))


@cache
def _document() -> Document:
    document: Document = json.loads(specification().read_text())
    return document


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    resource = Resource.from_contents(_document(), default_specification=DRAFT202012)
    registry = Registry().with_resource(_URN, resource)
    return jsonschema.Draft202012Validator({"$ref": f"{_URN}#/components/schemas/{schema}"}, registry=registry)


@cache
def _events() -> dict[str, str]:
    """Give the schema of each type of event."""
    schemas = _document()["components"]["schemas"]
    return {
        schema["properties"]["type"]["enum"][0]: name
        for name, schema in schemas.items()
        if name.endswith("StreamingEvent")
    }


def faults_of_response(response: Document) -> list[str]:
    """Give what a response breaks of its schema; nothing when it holds."""
    return _faults("ResponseResource", specified_response(response))


def faults_of_event(event: Document) -> list[str]:
    """Give what an event of a stream breaks of its schema; that the specification does not know it is one fault."""
    event = specified_event(event)
    schema = _events().get(event["type"])
    return [f"{event['type']} is no event"] if schema is None else _faults(schema, event)


def specified_event(event: Document) -> Document:
    """Give an event as the specification has it where ours is OpenAI's."""
    held = {"response": specified_response(event["response"])} if "response" in event else {}
    return {**event, **held, "type": _RENAMED.get(event["type"], event["type"])}


def _faults(schema: str, value: Document) -> list[str]:
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:160]}"
        for error in _validator(schema).iter_errors(value)
    ]


def specified_response(response: Document) -> Document:
    """Give a response as the specification has it where ours is OpenAI's: null for the schema in `text.format`."""
    form = response["text"]["format"]
    if form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        return response
    return {**response, "text": {**response["text"], "format": {**form, "schema": None}}}
