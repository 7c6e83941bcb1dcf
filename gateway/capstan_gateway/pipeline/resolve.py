"""From the name in a request to a model of the config: from here on there is an ask."""

from capstan_gateway.errors import InvalidRequest, ModelNotFound
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.queueing import SERVICE_TIER
from capstan_gateway.pipeline.request import Request


def resolve(delivery: Delivery, request: Request, budget: MemoryBudget) -> Ask:
    """Give what the client asks of the model that it names; refuse one that does another task than the route's."""
    name = request.document["model"]
    runtime = delivery.runtime
    model = runtime.models.get(name) or runtime.find(name)
    if model is None:
        raise ModelNotFound(f"the model `{name}` does not exist", param="model")
    route = delivery.route
    if model.task not in route.tasks and model is not runtime.auto:
        raise InvalidRequest(
            f"the model `{name}` does the task {model.task}, which {route.path} does not serve",
            code="invalid_value",
            param="model",
        )
    delivery.expires_at = expires_at = delivery.started + model.timeouts.totalSeconds
    delivery.ask = ask = Ask(
        request, model, runtime, delivery.started, expires_at, budget, delivery.request_id, delivery.trace,
        delivery.session, delivery.principal, delivery.options, 1, None, delivery.exchange.headers,
    )  # fmt: skip
    if request.native is not None:
        ask.service_tier = request.native.document.get(SERVICE_TIER)
    model.metrics.in_flight.value += 1
    return ask
