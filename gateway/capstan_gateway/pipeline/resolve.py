"""Stage: from the name in the request to a model of the config."""

from capstan_gateway.errors import InvalidRequest, ModelNotFound
from capstan_gateway.pipeline.context import RequestContext
from capstan_gateway.pipeline.deps import Deps


def resolve_model(context: RequestContext, _: Deps) -> None:
    """Find the model; refuse one that does another task than the route's."""
    model = context.runtime.models.get(context.model_name) or context.runtime.find(context.model_name)
    if model is None:
        raise ModelNotFound(f"the model `{context.model_name}` does not exist", param="model")
    if model.task not in context.route.tasks and model is not context.runtime.auto:
        raise InvalidRequest(
            f"the model `{context.model_name}` does the task {model.task}, which {context.route.path} does not serve",
            code="invalid_value",
            param="model",
        )
    context.model = context.answered_by = model
    context.expires_at = context.started + model.timeouts.totalSeconds
    model.metrics.in_flight.value += 1
