"""Policies in the compiled config: what is in force, what stays in force, and what is said of each policy."""

from dataclasses import replace
from typing import Any

from capstan_contract.config import GatewayConfig
from capstan_contract.limits import read_body
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.compile import Compiler, compile_gateway
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.policies import Policies
from capstan_operator.desired.types import CompiledGateway, Loss
from capstan_operator.resources.resource import Fault, ObjectKey
from support.plainmodels import make_model
from support.plainpolicies import LIMITS, make_policy, named

RULES = NameRules(shared_namespace="system")
LIVE = LiveConfig.of(GatewayConfig.build(()))


def compiled(
    models: list[Model],
    *policies: Policy,
    after: CompiledGateway | None = None,
    unread: frozenset[str] = frozenset(),
    unread_policies: frozenset[str] = frozenset(),
) -> CompiledGateway:
    """What models and policies come to, `after` what is live."""
    live = LiveConfig.of(after.config) if after else LIVE
    found = Policies(policies, lambda key: key.namespace in unread_policies)
    return Compiler().compile(models, policies=found, live=live, rules=RULES, unread=unread)


def in_force(config: CompiledGateway) -> dict[str, tuple[str, ...]]:
    """The policies of each model."""
    return {entry.id: entry.policies for entry in config.config.models}


def requests(config: CompiledGateway, policy: str = "team/limits") -> int:
    """The requests that a policy allows in the config."""
    (entry,) = [entry for entry in config.config.policies if entry.id == f"RateLimitPolicy/{policy}"]
    return read_body(entry).limits[0].amount


def broken(policy: Policy) -> Policy:
    """A policy after an edit that nobody understands."""
    return replace(policy, generation=policy.generation + 1, spec=None, faults=(Fault("spec.limits", "is wrong"),))


def limit(requests: int) -> list[dict[str, Any]]:
    """Limits of so many requests."""
    return [{**LIMITS[0], "requests": requests}]


A, B = make_model("a"), make_model("b")
ON_A = make_policy(targetRefs=named("a"))
ID = "RateLimitPolicy/team/limits"


def test_a_policy_is_in_force_on_what_it_names() -> None:
    """The entry of a named model names the policy, the others' do not, and each verdict says so."""
    result = compiled([A, B], ON_A)
    assert in_force(result) == {"team/a": (ID,), "team/b": ()}
    verdict = result.policies[ID]
    assert (verdict.accepted, verdict.models, verdict.lost, verdict.message) == (True, 1, 0, "in force on 1 model")
    assert result.verdicts[A.key].policies == (ID,)
    assert result.verdicts[B.key].policies == ()


def test_a_policy_of_the_installation_is_for_all() -> None:
    """One of the install namespace that names nobody is in force everywhere, but where a model has one of its own."""
    everywhere = make_policy("all", namespace="system")
    other = make_model("c", namespace="other")
    result = compiled([A, B, other], ON_A, everywhere)
    all_ = "RateLimitPolicy/system/all"
    assert in_force(result) == {"team/a": (ID,), "team/b": (all_,), "other/c": (all_,)}
    assert result.policies[all_].losses == (Loss(A.key, "Overridden", ID),)
    assert result.policies[all_].accepted


def test_nobody_else_speaks_for_all() -> None:
    """A policy of any other namespace that names nobody is not accepted, and is told how to mean its namespace."""
    result = compiled([A], make_policy())
    verdict = result.policies[ID]
    assert (verdict.accepted, verdict.reason) == (False, "Invalid")
    assert "targetSelector: {}" in verdict.message
    assert in_force(result) == {"team/a": ()}


def test_a_loser_is_told_who_won() -> None:
    """Of two that name one model the older one is in force; the other is not accepted, and not in the config."""
    younger = make_policy("younger", created="2026-02-01T00:00:00Z", targetRefs=named("a"))
    result = compiled([A], younger, ON_A)
    assert in_force(result) == {"team/a": (ID,)}
    verdict = result.policies["RateLimitPolicy/team/younger"]
    assert (verdict.accepted, verdict.reason) == (False, "Conflicted")
    assert "'a', where the RateLimitPolicy 'team/limits' is in force" in verdict.message
    assert [entry.id for entry in result.config.policies] == [ID]


def test_who_loses_some_is_accepted_for_the_rest() -> None:
    """A policy that is in force on one of its two models is accepted, and says of the other who has it."""
    younger = make_policy("younger", created="2026-02-01T00:00:00Z", targetRefs=named("a", "b"))
    verdict = compiled([A, B], ON_A, younger).policies["RateLimitPolicy/team/younger"]
    assert (verdict.accepted, verdict.models, verdict.lost) == (True, 1, 1)
    assert verdict.losses == (Loss(A.key, "Conflicted", ID),)


def test_the_one_in_force_stays_when_an_older_one_comes() -> None:
    """A policy restored from a backup, older than the one in force, does not take its place."""
    older = make_policy("older", created="2020-01-01T00:00:00Z", targetRefs=named("a"))
    first = compiled([A], ON_A)
    assert in_force(compiled([A], ON_A, older, after=first)) == {"team/a": (ID,)}
    assert in_force(compiled([A], ON_A, older)) == {"team/a": ("RateLimitPolicy/team/older",)}


def test_shadow_beside_enforce() -> None:
    """A policy in mode Shadow is tried beside the one that enforces; made to enforce, it does not oust that one."""
    trial = make_policy("a-trial", created="2020-01-01T00:00:00Z", targetRefs=named("a"), mode="Shadow")
    both = compiled([A], ON_A, trial)
    assert in_force(both) == {"team/a": ("RateLimitPolicy/team/a-trial", ID)}
    enforcing = make_policy("a-trial", created="2020-01-01T00:00:00Z", generation=2, targetRefs=named("a"))
    after = compiled([A], ON_A, enforcing, after=both)
    assert in_force(after) == {"team/a": (ID,)}
    assert after.policies["RateLimitPolicy/team/a-trial"].reason == "Conflicted"


def test_a_faulty_edit_changes_nothing_that_is_in_force() -> None:
    """Limits stay as they were accepted last, and where: on models that come later, too."""
    labelled = replace(B, labels={"tier": "gold"})
    policy = make_policy(targetSelector={"matchLabels": {"tier": "gold"}}, limits=limit(7))
    first = compiled([A, labelled], policy)
    newcomer = replace(make_model("c"), labels={"tier": "gold"})
    after = compiled([A, labelled, newcomer], broken(policy), after=first)
    assert in_force(after) == {"team/a": (), "team/b": (ID,), "team/c": (ID,)}
    assert requests(after) == 7
    verdict = after.policies[ID]
    assert (verdict.accepted, verdict.kept, verdict.reason) == (False, True, "Invalid")
    assert verdict.message == "`spec.limits` is wrong; what was accepted last stays in force"


def test_a_faulty_policy_inherits_nothing() -> None:
    """One that is made anew under the same name, and was never sound, does not go on with what another one allowed."""
    first = compiled([A], ON_A)
    again = replace(broken(ON_A), uid="another")
    after = compiled([A], again, after=first)
    assert in_force(after) == {"team/a": ()}
    assert not after.policies[ID].kept


def test_a_faulty_new_policy_takes_no_model_away() -> None:
    """A policy that was never sound is in force nowhere, and the models are served."""
    result = compiled([A], broken(ON_A))
    assert in_force(result) == {"team/a": ()}
    assert result.verdicts[A.key].accepted


def test_a_policy_that_is_deleted_ends() -> None:
    """Deleted, or being deleted, a policy is in force on nothing, and the next one takes its place."""
    first = compiled([A], ON_A)
    assert in_force(compiled([A], after=first)) == {"team/a": ()}
    heir = make_policy("heir", created="2026-02-01T00:00:00Z", targetRefs=named("a"))
    gone = replace(ON_A, deleting=True)
    assert in_force(compiled([A], gone, heir, after=first)) == {"team/a": ("RateLimitPolicy/team/heir",)}


def test_a_policy_that_is_narrowed() -> None:
    """A model that a policy no longer names is free of it, and the policy is what it says now on the others."""
    both = make_policy(targetRefs=named("a", "b"), limits=limit(7))
    first = compiled([A, B], both)
    narrowed = make_policy(generation=2, targetRefs=named("b"), limits=limit(5))
    after = compiled([A, B], narrowed, after=first)
    assert in_force(after) == {"team/a": (), "team/b": (ID,)}
    assert requests(after) == 5


def test_policies_that_nobody_can_read_stay() -> None:
    """Where the policies of a namespace cannot be read, what is live of them stays, on models that come as well."""
    policy = make_policy(targetSelector={}, limits=limit(7))
    first = compiled([A], policy)
    after = compiled([A, B], after=first, unread_policies=frozenset(["team"]))
    assert in_force(after) == {"team/a": (ID,), "team/b": (ID,)}
    assert requests(after) == 7


def test_models_that_nobody_can_read_keep_their_policies() -> None:
    """Where neither the models nor the policies of a namespace can be read, its entries stay, limits and all."""
    first = compiled([A], ON_A)
    after = compiled([], after=first, unread=frozenset(["team"]), unread_policies=frozenset(["team"]))
    assert after.config == first.config


def test_nothing_there_to_limit() -> None:
    """A policy all of whose targets are missing is not accepted, and is once one of them comes."""
    missing = compiled([], ON_A)
    assert (missing.policies[ID].accepted, missing.policies[ID].reason) == (False, "TargetNotFound")
    assert missing.policies[ID].losses == (Loss(ObjectKey("team", "a"), "TargetNotFound"),)
    assert in_force(compiled([A], ON_A, after=missing)) == {"team/a": (ID,)}


def test_a_selector_that_selects_nothing_yet() -> None:
    """A policy whose labels no model has is accepted and in the config, in force on nothing."""
    result = compiled([A], make_policy(targetSelector={"matchLabels": {"x": "y"}}))
    verdict = result.policies[ID]
    assert (verdict.accepted, verdict.message, verdict.in_config) == (True, "in force on no model", True)


def test_losses_are_bounded() -> None:
    """At most 15 of the models that are lost are named, and all are counted."""
    models = [make_model(f"m{number:02}") for number in range(20)]
    younger = make_policy("younger", created="2026-02-01T00:00:00Z", targetSelector={})
    verdict = compiled(models, make_policy(targetSelector={}), younger).policies["RateLimitPolicy/team/younger"]
    assert (verdict.lost, len(verdict.losses)) == (20, 15)
    assert len(verdict.message) < 200


def test_without_policies_a_config_is_as_ever() -> None:
    """Models alone compile to the very bytes of before."""
    assert compile_gateway([A, B]).config.schemaVersion == 1
    assert b"policies" not in compile_gateway([A, B]).config.text()


def budgets(*models: str) -> list[dict[str, Any]]:
    """Budgets that go down to these models."""
    one = {"per": "Team", "dollars": "1", "period": "day", "onExhausted": "Downgrade"}
    return [{**one, "name": f"to-{name}", "downgradeTo": name} for name in models]


def test_a_downgrade_that_leads_nowhere_is_told() -> None:
    """The policy is accepted, and its message says which budget denies once it is spent, until its model comes."""
    policy = make_policy(targetRefs=named("a"), budgets=budgets("b", "typo", "a"))
    verdict = compiled([A, B], policy).policies[ID]
    told = [
        "in force on 1 model",
        "the budget 'to-typo' denies once it is spent, because the LLMModel 'typo' is not there",
        "the budget 'to-a' denies once it is spent, because the LLMModel 'a' is the only one that the policy is for",
    ]
    assert (verdict.accepted, verdict.message) == (True, "; ".join(told))
    faulty = replace(B, spec=None, faults=(Fault("spec", "is wrong"),))
    assert "because the LLMModel 'b' is not served" in compiled([A, faulty], policy).policies[ID].message
    both = make_policy(targetRefs=named("a", "b"), budgets=budgets("b"))
    assert compiled([A, B], both).policies[ID].message == "in force on 2 models"
    many = compiled([A], make_policy(targetRefs=named("a"), budgets=budgets(*(f"m{number}" for number in range(9)))))
    assert many.policies[ID].message.endswith("; so do 6 more")
