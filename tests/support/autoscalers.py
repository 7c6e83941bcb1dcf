"""The part of the operator that decides how many replicas there are, for tests of what is around it."""

from typing import Any

from capstan_operator.autoscaling.autoscaler import Autoscaler


def idle_autoscaler(**options: Any) -> Autoscaler:
    """Give one that knows of no demand."""
    return Autoscaler(lambda _: None, wake=lambda _: None, record=lambda *_: None, **options)
