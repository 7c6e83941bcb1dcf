"""A reconcile that the queue ends by its deadline."""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

import pytest

from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.metrics import Metrics
from capstan_operator.models.reconciler import ModelReconciler
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import Settings
from support.autoscalers import idle_autoscaler

KEY = ObjectKey("team", "hangs")


class _Loader:
    async def load(self, keys: Iterable[ObjectKey]) -> Snapshot:
        return Snapshot(models={})

    def is_cluster_wide(self, keys: Iterable[ObjectKey]) -> bool:
        return True


class _Adopter:
    def __init__(self) -> None:
        self.given_up: list[ObjectKey] = []

    def give_up(self, key: ObjectKey) -> None:
        self.given_up.append(key)


async def test_it_hands_its_turn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never comes to its end keeps no turn, and turns do not wait for it."""

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ModelReconciler, "_reconcile", hang)
    adopter, nothing = _Adopter(), cast(Any, None)
    reconciler = ModelReconciler(
        nothing,
        cast(Any, _Loader()),
        Settings(),
        gateway=nothing,
        acknowledger=nothing,
        events=nothing,
        wake=lambda _: None,
        metrics=Metrics(),
        adopter=cast(Any, adopter),
        autoscaler=idle_autoscaler(),
    )
    work = await reconciler.prepare([KEY])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await work(KEY)
    assert adopter.given_up == [KEY]
