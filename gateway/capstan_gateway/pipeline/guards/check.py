"""`/v1/guard/check`: what the guards of a model would do with a text. No model is asked for an answer.

    {"model": "m", "input": "text"}                      {"object": "guard.check", "model": "m", "stage": "input",
    {"model": "m", "messages": [...]}                     "action": "Redact", "policies": [...], "guards": [...],
                                                          "failed": [...]}
    {"model": "m", "input": "an answer", "stage": "output", "messages": [what was asked]}

It is a request like others to limits: it counts as one, and what models cost that guards ask is on its bill.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from capstan_contract.guards import Action, Source, Stage
from capstan_gateway.documents import to_json
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.headers import JSON
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.beside import LARGE_BYTES, beside
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.output import answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, Place, pieces_of
from capstan_gateway.pipeline.guards.redaction import Redactor
from capstan_gateway.pipeline.guards.stage import Decision
from capstan_gateway.pipeline.layers import Order, compose
from capstan_gateway.pipeline.reply import Reply, WholeReply

MOST_FINDINGS: Final = 256
"""Findings of one guard that are told; `found` says how many there are."""
SCORE_DIGITS: Final = 1
"""Of a score that is told: enough to see why, and too few to follow it downhill, word by word, to where it ends."""
_SEVEREST: Final = (Action.BLOCK, Action.REDACT, Action.WARN)
Document = dict[str, Any]


async def check(ask: Ask) -> Reply:
    """Give what guards would do; InvalidRequest when it cannot be read."""
    stage = _stage_of(ask.request.document)
    guarding = [layer for layer in ask.model.layers if isinstance(layer, GuardLayer)]
    limits = [layer for layer in ask.model.layers if layer.order is Order.LIMITS]

    async def checked(ask: Ask) -> Reply:
        read = partial(_pieces, ask.request.document, stage)
        large = ask.request.came > LARGE_BYTES and bool(guarding)
        pieces, answer = await beside(guarding[0].shared.deps.executor, read) if large else read()
        told = [await _told(layer, ask, stage, pieces, answer) for layer in guarding]
        ask.answered_by = ask.model
        return WholeReply(200, JSON, to_json(_answer(ask, stage, pieces, told)))

    reply: Reply = await compose(limits, checked)(ask)
    return reply


def _stage_of(document: Mapping[str, Any]) -> Stage:
    stage, text, messages = document.get("stage", Stage.INPUT), document.get("input"), document.get("messages")
    if stage not in tuple(Stage):
        raise InvalidRequest("`stage` must be input or output", code="invalid_value", param="stage")
    if text is not None and not isinstance(text, str):
        raise InvalidRequest("`input` must be a string", code="invalid_value", param="input")
    if messages is not None and not isinstance(messages, list):
        raise InvalidRequest("`messages` must be a list", code="invalid_value", param="messages")
    if text is None and (messages is None or stage == Stage.OUTPUT):
        raise InvalidRequest("`input` is required", code="missing_required_parameter", param="input")
    if text is not None and messages is not None and stage == Stage.INPUT:
        raise InvalidRequest("give `input` or `messages`, not both", code="invalid_value", param="input")
    return Stage(stage)


def _pieces(document: Mapping[str, Any], stage: Stage) -> tuple[Sequence[Piece], Document | None]:
    """Give the texts that are looked at, and the answer that they are of, if they are of one."""
    text, messages = document.get("input"), document.get("messages")
    if stage is Stage.INPUT:
        if messages is None:
            return [Piece(str(text), Source.USER, Place(None, "input"))], None
        return pieces_of({"messages": messages}).texts, None
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    return [Piece(one.text, one.source, Place(None, "input")) for one in answer_pieces(answer)], answer


async def _told(
    layer: GuardLayer, ask: Ask, stage: Stage, pieces: Sequence[Piece], answer: Document | None
) -> tuple[GuardLayer, Decision]:
    judging = Judging(
        policy=layer.policy, shared=layer.shared, counts=layer.counts, ask=ask, everywhere=layer.everywhere
    )
    guards = layer.policy.input if stage is Stage.INPUT else layer.policy.output
    return layer, await judging.decide(guards, pieces, redactor=Redactor(), answer=answer)


def _named(layer: GuardLayer, guard: CompiledGuard) -> Document:
    """Say which guard it is; of the installation's own policies, which are nobody's business, only of what type."""
    kind, mode = guard.guard.type, layer.policy.body.mode.value
    if layer.everywhere:
        return {"guard": kind, "type": kind, "policy": None, "mode": mode}
    return {"guard": guard.name, "type": kind, "policy": layer.counts.policy, "mode": mode}


def _answer(ask: Ask, stage: Stage, pieces: Sequence[Piece], told: Sequence[tuple[GuardLayer, Decision]]) -> Document:
    acts = {one.action for layer, decision in told if layer.policy.enforces for one in decision.found}
    closes = any(layer.policy.enforces and decision.closes is not None for layer, decision in told)
    return {
        "object": "guard.check", "model": ask.model.name, "stage": stage.value,
        "action": "Block" if closes else next((one.value for one in _SEVEREST if one in acts), "Allow"),
        "policies": [layer.counts.policy for layer, _ in told if not layer.everywhere],
        "guards": [
            {
                **_named(layer, one.guard), "action": one.action.value, "found": len(one.findings),
                "findings": [
                    {
                        "kind": finding.kind, "at": pieces[number].path, "start": finding.start, "end": finding.end,
                        "score": round(finding.score, SCORE_DIGITS),
                    }
                    for number, finding in one.findings[:MOST_FINDINGS]
                ],
            }
            for layer, decision in told
            for one in decision.found
        ],
        "failed": [
            {
                **_named(layer, one.guard), "onError": one.guard.guard.onError.value, "reason": one.reason,
            }
            for layer, decision in told
            for one in decision.failed
        ],
    }  # fmt: skip
