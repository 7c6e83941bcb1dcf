"""Suites that rollouts of manifests name, in ConfigMaps of manifests: what is wrong with them."""

import base64
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from capstan_operator.cli.eval import NEEDED
from capstan_operator.cli.tables import printable
from capstan_operator.manifests.collect import Manifests, passed_over
from capstan_operator.manifests.documents import Diagnostic, Document, about
from capstan_operator.manifests.prompts import config_maps_in
from capstan_operator.resources.resource import Manifest, ObjectKey


def with_suites(manifests: Manifests) -> Manifests:
    """Give the manifests with what is wrong with the suites of their rollouts: the Job of a canary would say it only
    after the canary has taken its GPUs.

    A ConfigMap that no manifest here has may well be in the cluster. Nothing is looked at without the packages of
    `capstan[evaluation]`. Functions that suites name are not loaded.
    """
    if not all(map(_is_installed, NEEDED)):
        return manifests
    found = config_maps_in(manifests.others)
    named = {(key, file) for key, file in _named(manifests) if key in found}
    notices = {passed_over(found[key]) for key, _ in named}
    rest = tuple(one for one in manifests.diagnostics if one not in notices)
    said = tuple(one for key, file in sorted(named) for one in _diagnostics(found[key], file))
    return replace(manifests, diagnostics=(*rest, *said))


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _named(manifests: Manifests) -> Iterator[tuple[ObjectKey, str]]:
    """Give (ConfigMap, key) of each suite."""
    for model in manifests.models.values():
        gate = model.spec.rollouts.gates if model.spec is not None else None
        for suite in (*gate.suites, *gate.safety) if gate is not None else ():
            yield ObjectKey(model.key.namespace, suite.configMap), suite.file


def _diagnostics(config_map: Document, file: str) -> Iterator[Diagnostic]:
    # NB: imported only now: it needs packages that manifests without suites do not.
    from capstan_evaluation.errors import SuiteInvalid
    from capstan_evaluation.suites.load import load_suite_texts

    try:
        load_suite_texts(_texts(config_map.manifest), file)
    except SuiteInvalid as error:
        for line in str(error).split("\n"):
            yield about(config_map, printable(line), "data")


def _texts(config_map: Manifest) -> dict[str, str]:
    """Give the files that a pod would find. What is no text is left out, as if it were missing."""
    data, binary = (_mapping(config_map.get(field)) for field in ("data", "binaryData"))
    texts = {name: text for name, text in data.items() if isinstance(text, str)}
    for name, encoded in binary.items():
        try:
            texts.setdefault(name, base64.b64decode(encoded, validate=True).decode())
        except (TypeError, ValueError):
            continue
    return texts


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
