"""What pods of a model and Jobs of its rollouts have alike: from the settings of the install and `spec.pods`. Pure."""

import json
from typing import Any

from capstan_operator.api.llmmodel import LLMModelSpec, PodsSpec
from capstan_operator.settings import BuildSettings


def pod_labels(spec: LLMModelSpec, settings: BuildSettings) -> dict[str, str]:
    """Give the labels beside Capstan's own, which come after them."""
    return {**_texts(settings.model_pod_labels), **_pods(spec).labels}


def pod_annotations(spec: LLMModelSpec, settings: BuildSettings) -> dict[str, str]:
    """Give the annotations beside Capstan's own."""
    return {**_texts(settings.model_pod_annotations), **_pods(spec).annotations}


def account_fields(spec: LLMModelSpec, settings: BuildSettings) -> dict[str, Any]:
    """Give the fields of a pod that say as whom it runs and pulls images: the install's Secrets before the model's."""
    pods = _pods(spec)
    names = dict.fromkeys((*settings.image_pull_secrets, *(one.name for one in pods.imagePullSecrets)))
    found = {
        "imagePullSecrets": [{"name": name} for name in names],
        "serviceAccountName": pods.serviceAccountName,
    }
    return {key: value for key, value in found.items() if value}


def pod_security(settings: BuildSettings) -> dict[str, Any]:
    """Give the securityContext of a pod; it has nothing that the settings set to null."""
    return _without_null(json.loads(settings.model_pod_security))


def container_security(settings: BuildSettings) -> dict[str, Any]:
    """Give the securityContext of a container."""
    return _without_null(json.loads(settings.model_container_security))


def fleet_variables(settings: BuildSettings) -> list[dict[str, Any]]:
    """Give the variables that the install has for every engine."""
    found: list[dict[str, Any]] = json.loads(settings.model_env)
    return found


def _pods(spec: LLMModelSpec) -> PodsSpec:
    return spec.pods or PodsSpec()


def _texts(text: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(text)
    return found


def _without_null(found: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_null(value) if isinstance(value, dict) else value for key, value in found.items()}
    return {key: value for key, value in kept.items() if value is not None}
