"""Which guards are in force on a model, as whoever runs the gateway may know it. Pure."""

from collections.abc import Mapping
from typing import Any

from capstan_contract.guards import WebhookGuard, models_of_guard
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.layer import GuardLayer

Document = dict[str, Any]


def guards_of_model(model: ServedModel, by_id: Mapping[str, ServedModel]) -> Document:
    """Give the policies on a model with their guards, in the order in which they see a request, and by whom the model
    is answered when it is a virtual one: each of those has policies of its own. Nothing of what guards look for."""
    members = (model.plan.members if model.plan is not None else None) or ()
    ids = (one if isinstance(one, str) else one.model for one in members)
    return {
        "object": "guards", "model": model.name, "id": model.id,
        "members": [by_id[one].name for one in ids if one in by_id],
        "policies": [_policy(layer) for layer in model.layers if isinstance(layer, GuardLayer)],
    }  # fmt: skip


def _policy(layer: GuardLayer) -> Document:
    body = layer.policy.body
    return {
        "policy": layer.counts.policy, "everywhere": layer.everywhere, "mode": body.mode.value,
        "unchecked": body.unchecked.value,
        "input": [_guard(one) for one in layer.policy.input], "output": [_guard(one) for one in layer.policy.output],
    }  # fmt: skip


def _guard(one: CompiledGuard) -> Document:
    guard = one.guard
    url = getattr(guard, "url", None)
    said = {
        "guard": guard.name, "type": guard.type, "action": guard.action.value, "onError": guard.onError.value,
        "timeoutMillis": guard.timeoutMillis, "appliesTo": [source.value for source in guard.appliesTo],
        "actions": {kind: action.value for kind, action in sorted(one.actions.items())},
        "models": list(models_of_guard(guard)), "url": url,
    }  # fmt: skip
    if isinstance(guard, WebhookGuard):
        said["verdict"] = guard.verdict.value
    return said
