"""`/v1/guard/check`: what the guards of a model would do with a text. No model is asked for an answer.

    {"model": "m", "input": "text"}                      {"object": "guard.check", "model": "m", "stage": "input",
    {"model": "m", "messages": [...]}                     "action": "Redact", "policies": [...], "guards": [...],
                                                          "failed": [...]}
    {"model": "m", "input": "an answer", "stage": "output", "messages": [what was asked]}

It is a request like others to limits: it counts as one, and what models cost that guards ask is on its bill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from capstan_contract.guards import Action, ConfidenceGuard, Source, Stage
from capstan_gateway.documents import to_json
from capstan_gateway.errors import GuardBlocked, GuardUnavailable, InvalidRequest
from capstan_gateway.headers import JSON
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.compiled import CompiledGuard
from capstan_gateway.pipeline.guards.layer import GuardLayer
from capstan_gateway.pipeline.guards.needs import Judging
from capstan_gateway.pipeline.guards.output import answer_pieces
from capstan_gateway.pipeline.guards.pieces import Piece, Place
from capstan_gateway.pipeline.guards.reading import read_pieces
from capstan_gateway.pipeline.guards.redacting import redact_request, redacting
from capstan_gateway.pipeline.guards.stage import Decision, Failed
from capstan_gateway.pipeline.layers import Order, compose
from capstan_gateway.pipeline.reply import Reply, WholeReply

MOST_FINDINGS: Final = 256
"""Findings of one guard that are told; `found` says how many there are."""
SCORE_DIGITS: Final = 1
"""Of a score that is told: enough to see why, and too few to follow it downhill, word by word, to where it ends."""
NOT_ASKED: Final = "not-asked"
"""Why a guard has not decided: another policy lets nothing pass, and so nobody is asked."""
_SEVEREST: Final = (Action.BLOCK, Action.REDACT, Action.WARN)
Document = dict[str, Any]


async def check(ask: Ask) -> Reply:
    """Give what guards would do; InvalidRequest when it cannot be read."""
    stage = _stage_of(ask.request.document)
    guarding = [layer for layer in ask.model.layers if isinstance(layer, GuardLayer)]
    limits = [layer for layer in ask.model.layers if layer.order is Order.LIMITS]

    async def checked(ask: Ask) -> Reply:
        told = await _told_by_all(guarding, ask, stage)
        ask.answered_by = ask.model
        return WholeReply(200, JSON, to_json(_answer(ask, stage, told)))

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


class _Told(NamedTuple):
    """What one policy says."""

    layer: GuardLayer
    decision: Decision
    pieces: Sequence[Piece]
    """Of what."""
    ends: bool
    """Whether nothing would go on."""


async def _told_by_all(guarding: Sequence[GuardLayer], ask: Ask, stage: Stage) -> list[_Told]:
    """Have each policy look at what those before it redact, and ask nobody about what one of them does not let pass:
    whom it asks may be somebody outside."""
    if not guarding:
        return []
    # NB: what is asked comes to the outermost one first, and what is answered last.
    outward = stage is Stage.OUTPUT
    pieces, answer = await _read(ask, stage, guarding[0])
    asks = await _let_in(ask) if outward else True
    told: list[_Told] = []
    for layer in reversed(guarding) if outward else guarding:
        one, pieces = await _told(layer, ask, stage, pieces, answer, asks=asks and not any(said.ends for said in told))
        told.append(one)
    return told[::-1] if outward else told


async def _read(ask: Ask, stage: Stage, layer: GuardLayer) -> tuple[Sequence[Piece], Document | None]:
    """Give the texts that are looked at, and the answer that they are of, if they are of one."""
    document = ask.request.document
    text, messages = document.get("input"), document.get("messages")
    if stage is Stage.INPUT:
        if messages is None:
            return [Piece(str(text), Source.USER, Place(None, "input"))], None
        found = await read_pieces({"messages": messages}, ask.request.came, layer.shared.deps.executor)
        return found.texts, None
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    return [Piece(one.text, one.source, Place(None, "input")) for one in answer_pieces(answer)], answer


async def _let_in(ask: Ask) -> bool:
    """Have the ask hold what was asked for the answer that is checked, as those may be shown it who judge the answer;
    False where they may not."""
    ask.request = ask.request.rewritten(_asked(ask.request.document))
    try:
        await redact_request(redacting((ask.model,)), ask, recorded=False)
    except (GuardBlocked, GuardUnavailable):
        return False
    return True


def _asked(document: Mapping[str, Any]) -> Document:
    """Give what was asked for the answer that is checked: the answer itself is neither its context nor its question."""
    return {"model": document.get("model"), "messages": document.get("messages") or []}


async def _told(
    layer: GuardLayer, ask: Ask, stage: Stage, pieces: Sequence[Piece], answer: Document | None, *, asks: bool
) -> tuple[_Told, Sequence[Piece]]:
    """Give what a policy says of these texts, and the texts as it lets them pass."""
    judging = Judging(
        policy=layer.policy, shared=layer.shared, counts=layer.counts, ask=ask, everywhere=layer.everywhere
    )
    guards = layer.policy.input if stage is Stage.INPUT else layer.policy.output
    # NB: how sure a model was of a text, nobody can tell by the text.
    able = [one for one in guards if not isinstance(one.guard, ConfidenceGuard)]
    unasked = [] if asks else [Failed(one, NOT_ASKED) for one in able if one.detector is None]
    if not asks:
        able = [replace(one, asking=None) for one in able if one.detector is not None]
    decision = await judging.decide(able, pieces, redactor=judging.redactor, answer=answer)
    is_over = decision.blocks is not None or decision.closes is not None
    decision.failed += unasked
    if is_over or not layer.policy.enforces:
        return _Told(layer, decision, pieces, ends=is_over and layer.policy.enforces), pieces
    written = await judging.rewritten(judging.redactor, pieces, decision)
    return _Told(layer, decision, pieces, ends=judging.redactor.unwritable is not None), written


def _named(layer: GuardLayer, guard: CompiledGuard) -> Document:
    """Say which guard it is; of the installation's own policies, which are nobody's business, only of what type."""
    kind, mode = guard.guard.type, layer.policy.body.mode.value
    if layer.everywhere:
        return {"guard": kind, "type": kind, "policy": None, "mode": mode}
    return {"guard": guard.name, "type": kind, "policy": layer.counts.policy, "mode": mode}


def _answer(ask: Ask, stage: Stage, told: Sequence[_Told]) -> Document:
    acts = {one.action for said in told if said.layer.policy.enforces for one in said.decision.found}
    ends = any(said.ends for said in told)
    return {
        "object": "guard.check", "model": ask.model.name, "stage": stage.value,
        "action": "Block" if ends else next((one.value for one in _SEVEREST if one in acts), "Allow"),
        "policies": [said.layer.counts.policy for said in told if not said.layer.everywhere],
        "guards": [
            {
                **_named(said.layer, one.guard), "action": one.action.value, "found": len(one.findings),
                "findings": [
                    {
                        "kind": finding.kind, "at": said.pieces[number].path, "start": finding.start,
                        "end": finding.end, "score": round(finding.score, SCORE_DIGITS),
                    }
                    for number, finding in one.findings[:MOST_FINDINGS]
                ],
            }
            for said in told
            for one in said.decision.found
        ],
        "failed": [
            {
                **_named(said.layer, one.guard), "onError": one.guard.guard.onError.value, "reason": one.reason,
            }
            for said in told
            for one in said.decision.failed
        ],
    }  # fmt: skip
