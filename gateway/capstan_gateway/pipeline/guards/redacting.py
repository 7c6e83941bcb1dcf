"""Texts that the gateway itself shows somebody (a judge, who moderates): redacted before, as policies have it.

Only guards of the input that redact, and do it in the process, look at them. What one of them would block goes to
nobody; where one that must could not say, nothing does.
"""

from collections.abc import Iterable, Sequence

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.pieces import Piece
from capstan_gateway.pipeline.guards.reading import read_pieces, with_pieces
from capstan_gateway.pipeline.guards.told import blocked, unavailable


def redacting(models: Iterable[ServedModel], *, but: Sequence[object] = ()) -> list[GuardLayer]:
    """Give the policies on these models that redact, each once, those of the first model first; `but` not these."""
    found: dict[int, GuardLayer] = {}
    for model in models:
        for layer in model.layers:
            if isinstance(layer, GuardLayer) and layer.redacts and not any(layer is one for one in but):
                found.setdefault(id(layer), layer)
    return list(found.values())


async def redacted(
    layers: Iterable[GuardLayer], ask: Ask, pieces: Sequence[Piece], *, recorded: bool = True
) -> Sequence[Piece]:
    """Give the pieces as they may be shown. Raises GuardBlocked or GuardUnavailable.

    `recorded`: whether what is found counts, and is told the client.
    """
    for layer in layers:
        judging = Judging(
            policy=layer.policy, shared=layer.shared, counts=layer.counts, ask=ask, everywhere=layer.everywhere
        )
        decision = await judging.decide(layer.redacts, pieces, redactor=judging.redactor)
        if recorded:
            judging.record(decision, pieces)
        if (found := decision.blocks) is not None:
            raise blocked(found.guard, param=None, said=found.message)
        if (failed := decision.closes) is not None:
            raise unavailable(failed.guard)
        pieces = await judging.rewritten(judging.redactor, pieces, decision)
        if (fixed := judging.redactor.unwritable) is not None:
            raise blocked(fixed.guard, param=None)
    return pieces


async def redact_request(layers: Sequence[GuardLayer], ask: Ask, *, recorded: bool = True) -> None:
    """Have the ask's request hold its texts as they may be shown. Raises as `redacted` does."""
    if not layers:
        return
    request, executor = ask.request, layers[0].shared.deps.executor
    texts = (await read_pieces(request.document, request.came, executor)).texts
    written = await redacted(layers, ask, texts, recorded=recorded)
    changed = await with_pieces(request.document, written, texts, request.came, executor)
    if changed is not None:
        ask.request = request.rewritten(changed)
