"""Requests of weighted routers, on their way to the counters of the member that each was given to."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from capstan_contract.tracks import BUCKETS, Arm, Counters, Experiment, ExperimentsReport
from capstan_gateway.arms.counted import Counted, Went
from capstan_gateway.arms.experiments import Experiments, Setup
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.whose import said_user, session_of, user_of
from capstan_gateway.selection.plan import RouterPlan

BOOT: Final = secrets.token_hex(8)
"""Of this process: its counts begin with it."""


def bucket_of(ask: Ask, pseudonyms: Pseudonyms) -> int:
    """Give the bucket of whose requests are alike: of the user, else of the session, else of the request alone."""
    who = ask.principal
    name = (
        user_of(who, said_user(ask.request.document))
        or session_of(who, ask.session)
        or ask.request_id.decode("latin-1")
    )
    return pseudonyms.part(name, of=BUCKETS)


def assign(ask: Ask, experiments: Experiments, pseudonyms: Pseudonyms, setup: Setup, member: ServedModel) -> None:
    """Note which member of a router a request was given to."""
    ask.arms = (
        Counted(
            experiments.tally(setup, member.id), bucket_of(ask, pseudonyms),
            key=setup.router, epoch=setup.epoch, member=member.id,
        ),
    )  # fmt: skip


def count_arms(delivery: Delivery, ask: Ask, status: int, now: float) -> None:
    """Count a request in the arms that it was given to; its ask has been settled."""
    first = inter = None
    if delivery.first_sent_at:
        first = delivery.first_sent_at - delivery.started
        reply = delivery.reply
        if isinstance(reply, StreamReply) and reply.relay.events > 1:
            inter = (now - delivery.first_sent_at) / (reply.relay.events - 1)
    bill = ask.bill
    went = Went(
        status, now - delivery.started, first, inter, bill.nano_dollars if bill.priced and not bill.open else None
    )
    for arm in ask.arms:
        arm.count(went)


def report(experiments: Experiments, current: Callable[[], Runtime | None]) -> ExperimentsReport:
    """Say what was counted of all weighted routers."""
    runtime = current()
    models = () if runtime is None else runtime.full.by_id.values()
    plans = [
        (model.plan.setup, model.name)
        for model in models
        if isinstance(model.plan, RouterPlan) and model.plan.setup is not None
    ]
    return ExperimentsReport(boot=BOOT, experiments=experiments.report(plans))


async def with_feedback(
    told: ExperimentsReport, arms: Callable[[str, str], Awaitable[Mapping[str, Counters]]]
) -> ExperimentsReport:
    """Give the report with what clients said of each member's answers, as `arms` tells it by router and epoch."""
    experiments = [_with_feedback(one, await arms(one.router, one.epoch)) for one in told.experiments]
    return told.model_copy(update={"experiments": tuple(experiments)})


def _with_feedback(one: Experiment, said: Mapping[str, Counters]) -> Experiment:
    def filled(arm: Arm) -> Arm:
        return arm.model_copy(update={"shared": said[arm.member]}) if arm.member in said else arm

    return one.model_copy(update={"arms": tuple(map(filled, one.arms))})
