"""Which verdicts on a model count."""

from typing import Any

import pytest

from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.policies import Policies
from capstan_operator.desired.types import Verdict
from capstan_operator.gateway_config.ledger import UNKNOWN, Recorded
from capstan_operator.gateway_config.reconciler import (
    MISSING_RECHECK_SECONDS,
    UNREADABLE_RECHECK_SECONDS,
    GatewayState,
    Judged,
    recheck_after,
    record_policies,
)
from capstan_operator.loaders.model_list import AllModels
from capstan_operator.loaders.policy_list import NO_POLICIES
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import make_model
from support.plainpolicies import limits_only, make_policy, named


def model(generation: int = 1, status: dict[str, Any] | None = None) -> Model:
    """Give a model as the API server knows it."""
    return Model(key=ObjectKey("ns", "m"), uid="u", generation=generation, created="", spec=None, status=status or {})


def test_a_verdict_counts_only_for_its_generation() -> None:
    """A status must not be computed from what was said about an older spec, or another object of that name."""
    state = GatewayState(judged={ObjectKey("ns", "m"): Judged("u", 2, Verdict(True, "Accepted", ""))})
    assert state.verdict(model(2)) is not None
    assert not state.awaiting
    assert state.verdict(model(3)) is None
    assert state.awaiting == {ObjectKey("ns", "m")}


def test_a_verdict_on_a_deleted_object_of_the_same_name_does_not_count() -> None:
    """What was said of a model that was deleted is not said of the one that was made anew, whatever its generation."""
    for generation in (1, 2, 3):
        state = GatewayState(judged={ObjectKey("ns", "m"): Judged("former", generation, Verdict(True, "Accepted", ""))})
        assert not state.is_compiled(ObjectKey("ns", "m"), "u", 1)
        assert state.verdict(model(1)) is None
        assert state.awaiting == {ObjectKey("ns", "m")}


@pytest.mark.parametrize(
    ("policy", "models", "generation"),
    [
        (make_policy(generation=4, targetRefs=named("later")), ["m"], 4),
        (make_policy(generation=4, targetRefs=named("m")), ["m"], 4),
        (make_policy(generation=4, targetRefs=named("m"), limits=[]), ["m"], 0),
    ],
    ids=["of a model to come", "in force", "kept"],
)
def test_a_policy_in_the_config_is_of_its_generation_unless_an_older_one_is_kept(
    policy: Policy, models: list[str], generation: int
) -> None:
    """Else one whose model comes later would never count as known to the gateways that know it."""
    found = [make_model(name) for name in models]
    before = Compiler().compile(found, policies=Policies((make_policy(targetRefs=named("m")),)), live=LiveConfig())
    compiled = Compiler().compile(found, policies=Policies((policy,)), live=LiveConfig.of(before.config))
    (record,) = record_policies([policy], compiled).values()
    assert record == (Recorded(policy.uid, 4) if generation else UNKNOWN)


def test_what_could_not_be_read_is_tried_again() -> None:
    """Soon what may be read any moment, seldom a kind that is not installed, and not at all where all was read."""
    everywhere: frozenset[str | None] = frozenset([None])
    all_read, unread = AllModels(()), limits_only((), everywhere, everywhere)
    missing = limits_only((), everywhere, everywhere, is_kind_missing=True)
    assert recheck_after(all_read, NO_POLICIES) is None
    assert recheck_after(all_read, unread) == UNREADABLE_RECHECK_SECONDS
    assert recheck_after(all_read, missing) == MISSING_RECHECK_SECONDS > UNREADABLE_RECHECK_SECONDS
    assert recheck_after(AllModels((), frozenset(["team"])), missing) == UNREADABLE_RECHECK_SECONDS
