"""Prompts of a model that are in ConfigMaps: what was read of them gets into its spec. Pure.

A prompt that cannot be had, because its ConfigMap is missing, say, stays as it was last: `last` says what is in force
of the model, by the names of its prefixes. One that was never there is left out, and the model serves without it.
"""

import base64
import binascii
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

import orjson

from capstan_contract.config import ModelEntry
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import MOST_PROMPT_CHARACTERS, Prefix
from capstan_operator.desired.naming import prefixes_name
from capstan_operator.desired.pods import find_child
from capstan_operator.desired.volumes import PREFIXES_FILE
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import Fault, Manifest, ObjectKey


class PromptKey(NamedTuple):
    """Where a prompt is."""

    config_map: ObjectKey
    key: str


class Trouble(StrEnum):
    """Why a prompt cannot be had: the reason of the condition that says so."""

    MISSING = "ConfigMapNotFound"
    NO_KEY = "ConfigMapKeyNotFound"
    NOT_TEXT = "PromptNotText"
    EMPTY = "PromptEmpty"
    TOO_LARGE = "PromptTooLarge"
    FORBIDDEN = "ConfigMapForbidden"
    UNREADABLE = "ConfigMapUnreadable"
    """The API server could not say."""


_IN_WORDS: Final[Mapping[Trouble, str]] = {
    Trouble.MISSING: "names the ConfigMap '{map}', which does not exist: create it",
    Trouble.NO_KEY: "names the key '{key}', which the ConfigMap '{map}' does not have: add it",
    Trouble.NOT_TEXT: "names the key '{key}' of the ConfigMap '{map}', which is not UTF-8: write it as text",
    Trouble.EMPTY: "names the key '{key}' of the ConfigMap '{map}', which is empty: write the prompt into it",
    Trouble.TOO_LARGE: (
        "names the key '{key}' of the ConfigMap '{map}', which has more than"
        f" {MOST_PROMPT_CHARACTERS} characters: shorten it"
    ),
    Trouble.FORBIDDEN: "names the ConfigMap '{map}', which the operator may not read: allow it to list ConfigMaps here",
    Trouble.UNREADABLE: "names the ConfigMap '{map}', which the API server does not give now; it is tried again",
}

Prompt = str | Trouble
"""What a look at a key has come to."""
Prompts = Mapping[PromptKey, Prompt]


@dataclass(frozen=True)
class Filled:
    """A model with the prompts that it names."""

    model: Model
    faults: tuple[tuple[Trouble, Fault], ...] = ()
    """What cannot be had, and where it is named."""
    lacks_unread: bool = False
    """Whether a prompt is left out of which nobody can say yet whether it is there."""


def prompt_keys(model: Model) -> tuple[PromptKey, ...]:
    """Give where the prompts are that a model has in ConfigMaps."""
    prefixes = model.spec.prefixes if model.spec is not None else ()
    return tuple(key for prefix in prefixes if (key := _key_of(model, prefix)) is not None)


def read_prompts(manifest: Manifest | None, keys: Collection[str]) -> dict[str, Prompt]:
    """Read keys of a ConfigMap; None: there is none. Nothing else of it is kept."""
    return {key: Trouble.MISSING if manifest is None else _read(manifest, key) for key in keys}


def prompts_in(config_maps: Mapping[ObjectKey, Manifest], keys: Iterable[PromptKey]) -> dict[PromptKey, Prompt]:
    """Read prompts from the ConfigMaps of files."""
    return {one: read_prompts(config_maps.get(one.config_map), [one.key])[one.key] for one in keys}


def fill_prompts(model: Model, prompts: Prompts, last: Mapping[str, str]) -> Filled:
    """Give the model with its prompts. `last` is what is in force of it, by the names of its prefixes; a prompt that is
    not among `prompts` is one of which nobody can say anything yet."""
    if model.spec is None or not prompt_keys(model):
        return Filled(model)
    prefixes, faults, lacks_unread = [], [], False
    for index, prefix in enumerate(model.spec.prefixes):
        key = _key_of(model, prefix)
        found = None if key is None else prompts.get(key, Trouble.UNREADABLE)
        if key is None or found is None:
            prefixes.append(prefix)
            continue
        if isinstance(found, Trouble):
            before = last.get(prefix.name)
            faults.append((found, Fault(f"spec.prefixes[{index}].systemFrom", _in_words(found, key, prefix, before))))
            lacks_unread |= found is Trouble.UNREADABLE and before is None
            found = before
        prefixes.append(prefix.model_copy(update={"system": found}))
    spec = model.spec.model_copy(update={"prefixes": tuple(prefixes)})
    return Filled(replace(model, spec=spec), tuple(faults), lacks_unread)


def last_of_entry(entry: ModelEntry | None) -> dict[str, str]:
    """Give the prompts that requests of a model may name now."""
    return {} if entry is None else {prefix.name: prefix.system for prefix in entry.prefixes}


def last_of_children(name: str, children: Iterable[Manifest]) -> dict[str, str]:
    """Give the prompts that the pods of a model keep warm now; none where nothing readable is there."""
    found = find_child(tuple(children), CONFIG_MAPS.kind, prefixes_name(name))
    try:
        document = orjson.loads(((found or {}).get("data") or {}).get(PREFIXES_FILE) or "[]")
    except ValueError:
        return {}
    return dict(_named_texts(document))


def _named_texts(document: object) -> Iterator[tuple[str, str]]:
    for one in document if isinstance(document, list) else ():
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("system"), str):
            yield one["name"], one["system"]


def _key_of(model: Model, prefix: Prefix) -> PromptKey | None:
    if prefix.systemFrom is None:
        return None
    reference = prefix.systemFrom.configMapKeyRef
    return PromptKey(ObjectKey(model.key.namespace, reference.name), reference.key)


def _read(manifest: Manifest, key: str) -> Prompt:
    text = _text_of(manifest, key)
    if isinstance(text, Trouble):
        return text
    if not text.strip():
        return Trouble.EMPTY
    return Trouble.TOO_LARGE if len(text) > MOST_PROMPT_CHARACTERS else text


def _text_of(manifest: Manifest, key: str) -> Prompt:
    data, binary = manifest.get("data"), manifest.get("binaryData")
    if isinstance(data, Mapping) and key in data:
        # NB: a manifest from a file may have anything there.
        return data[key] if isinstance(data[key], str) else Trouble.NOT_TEXT
    if not isinstance(binary, Mapping) or key not in binary:
        return Trouble.NO_KEY
    try:
        # NB: where `kubectl create configmap --from-file` puts what is not UTF-8.
        return base64.b64decode(str(binary[key]), validate=True).decode()
    except (binascii.Error, ValueError):
        return Trouble.NOT_TEXT


def _in_words(trouble: Trouble, key: PromptKey, prefix: Prefix, last: str | None) -> str:
    said = _IN_WORDS[trouble].format(map=key.config_map.name, key=key.key)
    meanwhile = "cannot be named until then" if last is None else "stays as it was until then"
    return f"{said}; '{prefix.name}' {meanwhile}"
