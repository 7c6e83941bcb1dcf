"""The queue's room, made where there is a Redis: only there the libraries are loaded that speak to it."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.port import DispatchPort
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from capstan_gateway.queueing.room import Room


def make_queues(
    settings: Settings, *, metrics: Metrics, rng: Random, secret_of: Callable[[str], bytes | None]
) -> "Room":
    """Make what all models' queues share."""
    from capstan_gateway.queueing.room import Room

    return Room(settings, metrics=metrics, rng=rng, secret_of=secret_of)


def queue_dispatcher(direct: DispatchPort, room: "Room", *, budget: RetryBudget, metrics: Metrics) -> DispatchPort:
    """Make what sends calls of models with a queue by that, and all others as `direct` does."""
    from capstan_gateway.queueing.dispatcher import QueueDispatcher

    return QueueDispatcher(direct, room, budget=budget, metrics=metrics)
