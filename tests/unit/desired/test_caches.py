"""What a CachePolicy comes to in the gateway config, and on which models it is in force."""

from typing import Any

import pytest

from capstan_contract.caches import (
    Bypass,
    CacheBody,
    Compression,
    HeaderMatch,
    MemoryTier,
    RedisTier,
    Scope,
    SemanticTier,
    read_cache_body,
)
from capstan_contract.limits import Mode
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.policies import Policies
from capstan_operator.desired.policy_kinds import build_policy_entry, find_policy_faults
from capstan_operator.desired.types import CompiledGateway
from support.plainmodels import make_model
from support.plainpolicies import make_cache, make_guards, named

RULES = NameRules(shared_namespace="system")
A, B = make_model("a"), make_model("b")
ROUTER = make_model("router", router={"members": named("a", "b")})
CASCADE = make_model("cascade", cascade={"members": named("a", "b")})
ID = "CachePolicy/team/cache"


def body_of(policy: Policy) -> CacheBody:
    """The compiled body, as a gateway reads it."""
    assert find_policy_faults(policy) == ()
    return read_cache_body(build_policy_entry(policy))


def compiled(models: list[Model], *policies: Policy) -> CompiledGateway:
    """The whole config."""
    return Compiler().compile(models, policies=Policies(policies), rules=RULES)


def message_of(models: list[Model], **fields: Any) -> str:
    """What the status says of the policy, which is accepted."""
    verdict = compiled(models, make_cache(**fields)).policies[ID]
    assert verdict.accepted
    return verdict.message


def test_a_policy_that_says_nothing_keeps_what_is_safe() -> None:
    """By default answers are for the same tenant, an hour long, for the very same requests without tools, in memory and
    Redis; nothing of it is written into the config."""
    policy = make_cache(targetRefs=named("a"))
    assert body_of(policy) == CacheBody(redis=RedisTier())
    assert build_policy_entry(policy).body == {"redis": {}}


def test_everything_that_can_be_said_is_compiled() -> None:
    """Each field of the spec reaches the gateway, numbers in strings as numbers, models by their ids."""
    policy = make_cache(
        mode="Shadow", scope="User", ttlSeconds=60, memory={"maxBytes": 2097152, "maxEntries": 5},
        redis={"maxEntryBytes": 2048, "compression": "None", "encryptionKeyRef": {"name": "s", "key": "k"}},
        semantic={
            "enabled": True, "errorBudget": "0.05", "verify": False, "topK": 3,
            "maxEntries": 9, "sampleRate": "0.5", "judgeRef": {"name": "j"},
        },
        bypass={"temperatureAbove": "0.2", "tools": False, "headers": [{"name": "x-a", "values": ["b"]}]},
        honourCacheControl=False,
    )  # fmt: skip
    body = body_of(policy)
    (file,) = compiled([A], make_cache(**_spec(policy))).credentials
    assert body == CacheBody(
        mode=Mode.SHADOW, scope=Scope.USER, ttlSeconds=60, memory=MemoryTier(maxBytes=2097152, maxEntries=5),
        redis=RedisTier(maxEntryBytes=2048, compression=Compression.NONE),
        semantic=SemanticTier(
            errorBudget=0.05, verify=False, topK=3, maxEntries=9, sampleRate=0.5, judge="team/j"
        ),
        bypass=Bypass(temperatureAbove=0.2, tools=False, headers=(HeaderMatch(name="x-a", values=("b",)),)),
        honourCacheControl=False, encryptionFile=file,
    )  # fmt: skip


def test_a_model_that_makes_vectors_is_what_a_gateway_must_know_of() -> None:
    """One that does not would compare its own by a similarity that is not of these; others need to know nothing."""
    said = {"enabled": True, "similarity": "0.8", "embedding": {"modelRef": {"name": "e"}}}
    entry = build_policy_entry(make_cache(targetRefs=named("a"), semantic=said))
    assert entry.requires == ("cacheEmbedding",)
    assert entry.body["semantic"] == {"similarity": 0.8, "embedding": "team/e"}
    assert build_policy_entry(make_cache(targetRefs=named("a"), semantic={"enabled": True})).requires == ()


def _spec(policy: Policy) -> dict[str, Any]:
    assert policy.spec is not None
    return {**policy.spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True), "targetRefs": named("a")}


def test_a_key_of_a_secret_is_copied_for_its_own_policy() -> None:
    """The key that entries are sealed with comes out of the policy's namespace, into a file of that policy alone."""
    sealed = {"encryptionKeyRef": {"name": "s", "key": "k"}}
    one, other = (make_cache(name, targetRefs=named(model), redis=sealed) for name, model in (("x", "a"), ("y", "b")))
    result = compiled([A, B], one, other)
    assert set(result.credentials.values()) == {("team", "s", "k")}
    assert len(result.credentials) == 2
    assert {str(owner) for owner in result.credential_owners.values()} == {"CachePolicy/team/x", "CachePolicy/team/y"}
    assert body_of(make_cache(semantic={"judgeRef": {"name": "e"}})).semantic is None


def test_one_policy_enforces_on_a_model_and_one_more_is_tried() -> None:
    """Of two that enforce the older one has a model; one in mode Shadow is in force beside it."""
    old = make_cache("old", created="2026-01-01T00:00:00Z", targetRefs=named("a"))
    new = make_cache("new", created="2026-02-01T00:00:00Z", targetRefs=named("a"))
    tried = make_cache("tried", created="2026-03-01T00:00:00Z", targetRefs=named("a"), mode="Shadow")
    result = compiled([A], old, new, tried)
    assert result.verdicts[A.key].policies == ("CachePolicy/team/old", "CachePolicy/team/tried")
    assert result.policies["CachePolicy/team/new"].reason == "Conflicted"


def test_a_policy_of_the_installation_is_a_default_and_no_floor() -> None:
    """It is in force on models that have none of their own, and not beside those that have."""
    everywhere = make_cache("all", namespace="system")
    own = make_cache(targetRefs=named("a"))
    result = compiled([A, B], everywhere, own)
    assert result.verdicts[A.key].policies == (ID,)
    assert result.verdicts[B.key].policies == ("CachePolicy/system/all",)
    assert result.policies["CachePolicy/system/all"].losses[0].reason == "Overridden"


def test_a_policy_of_another_kind_is_no_conflict() -> None:
    """Guards and a cache of the same name are both in force on a model."""
    result = compiled([A], make_cache("same", targetRefs=named("a")), make_guards("same", targetRefs=named("a")))
    assert result.verdicts[A.key].policies == ("CachePolicy/team/same", "GuardPolicy/team/same")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (("a",), "in force on 1 model"),
        (
            ("a", "router"),
            "in force on 2 models; it keeps nothing for 'router', which only chooses among others:"
            " the policies of those keep what they answer",
        ),
        (
            ("router", "cascade"),
            "in force on 2 models; it keeps nothing for 'cascade', 'router', which only choose among others:"
            " the policies of those keep what they answer",
        ),
    ],
)
def test_models_that_only_choose_are_told(targets: tuple[str, ...], said: str) -> None:
    """A router or a cascade answers nothing itself: whoever caches it learns that its members are to be cached."""
    assert message_of([A, B, ROUTER, CASCADE], targetRefs=named(*targets)) == said


def test_a_policy_of_the_installation_is_not_told_of_them() -> None:
    """It is in force on the members as well."""
    everywhere = make_cache("all", namespace="system")
    assert compiled([A, B, ROUTER], everywhere).policies["CachePolicy/system/all"].message == "in force on 3 models"


@pytest.mark.parametrize(
    ("semantic", "said"),
    [
        (
            {"judgeRef": {"name": "j"}},
            "hits are compared by their vectors alone, because the LLMModel 'j' is not there",
        ),
        (
            {"judgeRef": {"name": "embed"}},
            "by their vectors alone, because the LLMModel 'embed' is of the task embed, not chat",
        ),
        ({"judgeRef": {"name": "b"}}, "in force on 1 model"),
        (
            {"embedding": {"modelRef": {"name": "e"}}, "similarity": "0.8"},
            "no questions are compared by what they mean, because the LLMModel 'e' is not there",
        ),
        (
            {"embedding": {"modelRef": {"name": "b"}}, "similarity": "0.8"},
            "because the LLMModel 'b' is of the task chat, not embed",
        ),
        ({"embedding": {"modelRef": {"name": "embed"}}, "similarity": "0.8"}, "in force on 1 model"),
    ],
)
def test_models_that_cannot_be_asked_are_told(semantic: dict[str, Any], said: str) -> None:
    """A judge that is not there, or cannot do it, is said, and what becomes of hits; one that is not asked because the
    tier is off is not."""
    models = [A, B, make_model("embed", model={"task": "embed"})]
    assert message_of(models, targetRefs=named("a"), semantic={"enabled": True, **semantic}).endswith(said)
    assert message_of(models, targetRefs=named("a"), semantic=semantic) == "in force on 1 model"
