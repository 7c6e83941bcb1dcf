"""What the config's lane tells after a write: a step at a time, as each looks at every model."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.metrics import Metrics
from capstan_operator.settings import Settings
from support.memorykube import MemoryKube
from support.plainmodels import make_model


async def test_others_have_their_turn_between_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what the ledger learns, what the acknowledger does and what is woken, the loop does something else."""
    turns, seen = 0, dict[str, int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def noting(step: str, function: Any) -> Any:
        def noted(*arguments: Any, **named: Any) -> Any:
            seen.setdefault(step, turns)
            return function(*arguments, **named)

        return noted

    metrics = Metrics()
    acknowledger = Acknowledger(MemoryKube(), Settings(), wake=lambda _: None, metrics=metrics)
    models = tuple(make_model(name=f"m{number}") for number in range(3))
    reconciler = GatewayConfigReconciler(
        MemoryKube(),
        SimpleNamespace(all_models=lambda: asyncio.sleep(0, listed)),  # type: ignore[arg-type]
        Settings(),
        credentials=CredentialStore(MemoryKube(), Settings()),
        acknowledger=acknowledger,
        wake=noting("woken", lambda _: None),
        is_busy=lambda _: False,
        metrics=metrics,
    )
    listed = SimpleNamespace(models=models, unknown=frozenset(), unreadable=frozenset(), unread=())
    monkeypatch.setattr(acknowledger.ledger, "record", noting("recorded", acknowledger.ledger.record))
    monkeypatch.setattr(acknowledger, "expect", noting("expected", acknowledger.expect))
    beside = asyncio.create_task(others())
    await reconciler.reconcile()
    beside.cancel()
    assert list(seen) == ["recorded", "expected", "woken"]
    assert seen["recorded"] < seen["expected"] < seen["woken"]
    assert set(reconciler.state.judged) == {model.key for model in models}
