"""What ConfigMaps and Secrets bring into an engine's container, by `engine.envFrom` and `engine.files`. Pure.

In a cluster nobody but the kubelet reads them: Capstan sees neither names nor values there, and says what must not be
among them. Of those that stand in files beside a model the names are judged as those of `engine.env` are.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineFile, EnvFromSource, LLMModelSpec
from capstan_operator.api.patterns import ENV_NAME
from capstan_operator.api.schema import matches
from capstan_operator.desired.pod import build_plain_template
from capstan_operator.desired.reserved import Facts
from capstan_operator.desired.template_wiring import engine_of, environment_of
from capstan_operator.desired.wiring import reserved_variables, why_reserved
from capstan_operator.resources.resource import Fault, Manifest, ObjectKey
from capstan_operator.settings import BuildSettings

ENV_FROM = "spec.engine.envFrom"
FILES = "spec.engine.files"


class Source(StrEnum):
    """Kinds that bring something."""

    CONFIG_MAP = "ConfigMap"
    SECRET = "Secret"  # noqa: S105 - the name of a kind


Address = tuple[Source, ObjectKey]
"""Which object."""


@dataclass(frozen=True)
class Brought:
    """What was found of it all."""

    variables: tuple[tuple[str, str], ...] = ()
    """Those that count: neither Capstan nor `engine.env` says them."""
    files: tuple[tuple[str, bytes], ...] = ()
    """(path in the container, content)."""
    faults: tuple[Fault, ...] = ()
    """What must not be."""
    unseen: tuple[Fault, ...] = ()
    """What is in no file, and may be in the cluster."""


def named_sources(model: Model) -> frozenset[Address]:
    """Give the objects that a model's engine has variables or files of."""
    if model.spec is None or not model.spec.has_engine:
        return frozenset()
    engine = model.spec.engine
    return frozenset(
        (*(_address(model, one) for one in engine.envFrom), *(_address(model, file) for file in engine.files))
    )


def bring(model: Model, objects: Mapping[Address, Manifest]) -> Brought:
    """Give what these objects bring into a model's engine, and what is wrong with it. No value is in a fault."""
    spec = model.spec
    if spec is None or not named_sources(model):
        return Brought()
    facts = Facts(model.key.name, spec)
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    unseen: list[Fault] = []
    said = _said(model, spec)
    for index, source in enumerate(spec.engine.envFrom):
        found = objects.get(_address(model, source))
        if found is None:
            unseen += _unseen(source, f"{ENV_FROM}[{index}]", facts, said)
            continue
        for key, value in _texts(found):
            name = f"{source.prefix or ''}{key}"
            if not matches(ENV_NAME, name) or name in said:
                continue
            variables[name] = value
            if why := why_reserved(name, value, facts):
                faults.append(Fault(f"{ENV_FROM}[{index}]", f"must not bring {name}: {why}"))
    files: list[tuple[str, bytes]] = []
    for index, file in enumerate(spec.engine.files):
        path = f"{FILES}[{index}]"
        found = objects.get(_address(model, file))
        if found is None:
            unseen += [Fault(path, "names a ConfigMap that is in none of these manifests")] * _is_map(file)
        elif (content := _content(found, _key(file))) is None:
            faults.append(Fault(path, f"names the key '{_key(file)}', which is not there"))
        else:
            files.append((file.path, content))
    return Brought(tuple(sorted(variables.items())), tuple(files), tuple(faults), tuple(unseen))


def find_unseen_variables(model: Model, spec: LLMModelSpec) -> Iterator[Fault]:
    """Say of each source of variables which Capstan cannot look into, and that could bring one that it relies on, what
    must not be in it."""
    if not spec.has_engine or not spec.engine.envFrom:
        return
    facts, said = Facts(model.key.name, spec), _said(model, spec)
    for index, source in enumerate(spec.engine.envFrom):
        if message := _must_not_bring(source, facts, said):
            yield Fault(f"{ENV_FROM}[{index}]", message)


def _said(model: Model, spec: LLMModelSpec) -> frozenset[str]:
    """Give the names that `envFrom` cannot bring: in a container, `env` wins."""
    return frozenset(name for name, _ in environment_of(engine_of(build_plain_template(model, spec, BuildSettings()))))


def _unseen(source: EnvFromSource, path: str, facts: Facts, said: frozenset[str]) -> Iterator[Fault]:
    if source.configMapRef is not None and not source.configMapRef.optional:
        yield Fault(path, "names a ConfigMap that is in none of these manifests")
    if message := _must_not_bring(source, facts, said):
        yield Fault(path, message)


def _must_not_bring(source: EnvFromSource, facts: Facts, said: frozenset[str]) -> str | None:
    names = sorted(one for one in reserved_variables(facts) - said if one.startswith(source.prefix or ""))
    if not names:
        return None
    return f"brings variables that Capstan cannot see: {', '.join(names)} must not be among them"


def _address(model: Model, one: EnvFromSource | EngineFile) -> Address:
    if isinstance(one, EnvFromSource):
        kind, found = (
            (Source.CONFIG_MAP, one.configMapRef) if one.configMapRef is not None else (Source.SECRET, one.secretRef)
        )
        return kind, ObjectKey(model.key.namespace, found.name if found else "")
    kind = Source.CONFIG_MAP if _is_map(one) else Source.SECRET
    reference = one.configMapKeyRef or one.secretKeyRef
    return kind, ObjectKey(model.key.namespace, reference.name if reference else "")


def _is_map(file: EngineFile) -> bool:
    return file.configMapKeyRef is not None


def _key(file: EngineFile) -> str:
    reference = file.configMapKeyRef or file.secretKeyRef
    return reference.key if reference else ""


def _texts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Give the keys whose values are text; others are no variables."""
    for key in sorted({*_fields(manifest, "data"), *_fields(manifest, "stringData")}):
        content = _content(manifest, key)
        try:
            yield key, (content or b"").decode()
        except UnicodeDecodeError:
            continue


def _content(manifest: Manifest, key: str) -> bytes | None:
    """Give what a ConfigMap or a Secret of a file has under a key; None where it has nothing that can be read."""
    is_secret = manifest.get("kind") == Source.SECRET
    plain = _fields(manifest, "stringData" if is_secret else "data")
    if isinstance(plain.get(key), str):
        return str(plain[key]).encode()
    encoded = _fields(manifest, "data" if is_secret else "binaryData")
    if not isinstance(encoded.get(key), str):
        return None
    try:
        return base64.b64decode(encoded[key], validate=True)
    except (binascii.Error, ValueError):
        return None


def _fields(manifest: Manifest, field: str) -> Mapping[str, str]:
    found = manifest.get(field)
    return found if isinstance(found, Mapping) else {}
