"""What a GuardPolicy comes to in the gateway config, and on which models it is in force."""

from collections.abc import Collection
from typing import Any

import pytest
from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

from capstan_contract.codes import LANGUAGES, PHONE_REGIONS
from capstan_contract.guards import (
    ANSWERED,
    ASKED,
    Action,
    AttackGuard,
    FormatGuard,
    GuardBody,
    ModerationGuard,
    OnError,
    PiiGuard,
    RegexGuard,
    Source,
    TopicsGuard,
    Unchecked,
    WebhookGuard,
    read_guard_body,
)
from capstan_contract.limits import Mode
from capstan_gateway.guards.plain.language import known_languages
from capstan_gateway.guards.plain.words import plain_words
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.compile import Compiler
from capstan_operator.desired.guard_words import says_nothing
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.naming import is_of_policy
from capstan_operator.desired.policies import Policies
from capstan_operator.desired.policy_kinds import build_policy_entry, find_policy_faults
from capstan_operator.desired.types import CompiledGateway
from capstan_operator.resources.resource import PolicyKey
from support.plainmodels import make_model
from support.plainpolicies import make_guards, make_policy, named

RULES = NameRules(shared_namespace="system")
A, B = make_model("a"), make_model("b")


def body_of(policy: Policy) -> GuardBody:
    """The compiled body, as a gateway reads it."""
    assert find_policy_faults(policy) == ()
    return read_guard_body(build_policy_entry(policy))


def asked(**guard: Any) -> Any:
    """The compiled guard of what is asked."""
    return body_of(make_guards(input=[guard])).input[0]


def answered(**guard: Any) -> Any:
    """The compiled guard of what is answered."""
    return body_of(make_guards(output=[guard])).output[0]


def compiled(models: Collection[Model], *policies: Policy, after: CompiledGateway | None = None) -> CompiledGateway:
    """What models and policies come to, `after` what is live."""
    live = LiveConfig.of(after.config) if after else LiveConfig()
    return Compiler().compile(models, policies=Policies(policies), live=live, rules=RULES)


def in_force(result: CompiledGateway) -> dict[str, tuple[str, ...]]:
    """The names of the policies of each model."""
    return {entry.id: tuple(id_.partition("/")[2] for id_ in entry.policies) for entry in result.config.models}


def test_a_type_is_enough() -> None:
    """A guard that says no more than its type has a name, an action and the texts that it looks at."""
    pii = asked(type="PII")
    assert pii == PiiGuard(name="pii", appliesTo=ASKED)
    assert (pii.action, pii.onError, pii.timeoutMillis) == (Action.REDACT, OnError.CLOSED, 2000)
    assert asked(type="PromptInjection") == AttackGuard(
        type="PromptInjection", name="prompt-injection", appliesTo=(Source.USER, Source.TOOL_RESULTS, Source.DOCUMENTS)
    )
    assert answered(type="PII").appliesTo == ANSWERED
    assert answered(type="Confidence").appliesTo == (Source.TEXT,)


def test_what_is_written_is_in_the_body() -> None:
    """Every field of the guards reaches the gateway: numbers as numbers, models by their ids, addresses as they are."""
    body = body_of(
        make_guards(
            mode="Shadow",
            unchecked="Block",
            input=[
                {
                    "name": "mail",
                    "type": "PII",
                    "action": "Block",
                    "onError": "Open",
                    "timeoutMillis": 50,
                    "appliesTo": ["User", "System"],
                    "message": "No.",
                    "entities": [{"type": "Email", "threshold": "0.7", "action": "Warn"}],
                    "allowList": ["info@example.com"],
                    "regions": ["DE"],
                },
                {"type": "Jailbreak", "sensitivity": "High", "classifier": {"modelRef": {"name": "guard"}}},
                {
                    "type": "Topics",
                    "deny": [{"name": "wine", "phrases": ["grape"], "examples": ["Which red?"]}],
                    "similarity": "0.8",
                    "embedding": {"modelRef": {"name": "vectors"}},
                },
                {"type": "Moderation", "modelRef": {"name": "llama"}, "format": "LlamaGuard"},
            ],
            output=[
                {"type": "Format", "jsonSchema": {"type": "object"}, "languages": ["de"], "askAgain": True},
                {"type": "Grounding", "modelRef": {"name": "judge"}, "threshold": "0.9"},
                {"type": "Regex", "action": "Redact", "patterns": [{"name": "id", "pattern": "A[0-9]+"}]},
            ],
        )
    )
    assert (body.mode, body.unchecked) == (Mode.SHADOW, Unchecked.BLOCK)
    mail, jailbreak, topics, moderation = body.input
    assert isinstance(mail, PiiGuard)
    assert (mail.name, mail.action, mail.onError, mail.timeoutMillis, mail.message) == (
        *("mail", Action.BLOCK, OnError.OPEN, 50, "No."),
    )
    assert mail.appliesTo == (Source.SYSTEM, Source.USER)
    (entity,) = mail.entities
    assert (entity.type, entity.threshold, entity.action) == ("Email", 0.7, Action.WARN)
    assert (mail.allowList, mail.regions) == (("info@example.com",), ("DE",))
    assert isinstance(jailbreak, AttackGuard)
    assert jailbreak.classifier is not None
    assert (jailbreak.sensitivity, jailbreak.classifier.model) == ("High", "team/guard")
    assert isinstance(topics, TopicsGuard)
    assert (topics.model, topics.similarity, topics.deny[0].examples) == ("team/vectors", 0.8, ("Which red?",))
    assert isinstance(moderation, ModerationGuard)
    assert (moderation.model, moderation.format, moderation.url) == ("team/llama", "LlamaGuard", None)
    format_, grounding, regex = body.output
    assert isinstance(format_, FormatGuard)
    assert (format_.jsonSchema, format_.languages, format_.askAgain) == ({"type": "object"}, ("de",), True)
    assert (grounding.model, grounding.threshold) == ("team/judge", 0.9)  # type: ignore[union-attr]
    assert isinstance(regex, RegexGuard)
    assert (regex.patterns[0].name, regex.patterns[0].pattern) == ("id", "A[0-9]+")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(ab", "missing )"),
        ("a(?=secret)", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a{5000}", "invalid repetition size"),
    ],
)
def test_an_expression_that_is_none_is_told_with_its_place(pattern: str, said: str) -> None:
    """A pattern that RE2 does not take is a fault at its field, which says why and repeats nothing of it."""
    sound = {"name": "fine", "pattern": "a+"}
    policy = make_guards(
        input=[{"type": "PII"}, {"type": "Regex", "patterns": [sound, {"name": "x", "pattern": pattern}]}]
    )
    (fault,) = find_policy_faults(policy)
    assert fault.field == "spec.input[1].patterns[1].pattern"
    assert fault.message.endswith(f": RE2 does not take it ({said})")
    (fault,) = find_policy_faults(make_guards(output=[{"type": "Format", "pattern": pattern}]))
    assert fault.field == "spec.output[0].pattern"


def test_a_name_that_is_another_guards_type() -> None:
    """What another guard is called by its type is no name."""
    policy = make_guards(input=[{"type": "PII"}, {"name": "pii", "type": "Keywords", "keywords": ["a"]}])
    (fault,) = find_policy_faults(policy)
    assert (fault.field, fault.message) == ("spec.input[1].name", "is what another guard is called by its type")
    both = make_guards(input=[{"type": "PII"}], output=[{"type": "PII"}])
    assert find_policy_faults(both) == ()


def test_a_policy_that_is_too_large_is_refused() -> None:
    """Many long keywords do not fit into the gateway's config, and take nothing else out of it."""
    keywords = [f"{number:0128}" for number in range(5000)]
    (fault,) = find_policy_faults(make_guards(input=[{"type": "Keywords", "keywords": keywords}]))
    assert "bytes of a gateway's config" in fault.message


def test_a_broken_expression_leaves_the_last_good_one_in_force() -> None:
    """After a faulty edit the policy says what is wrong and where, and what was accepted last stays in force."""
    good = make_guards(targetRefs=named("a"), input=[{"type": "Regex", "patterns": [{"name": "x", "pattern": "good"}]}])
    first = compiled([A, B], good)
    bad = make_guards(
        targetRefs=named("a"), generation=2, input=[{"type": "Regex", "patterns": [{"name": "x", "pattern": "(bad"}]}]
    )
    result = compiled([A, B], bad, after=first)
    verdict = result.policies["GuardPolicy/team/guards"]
    assert (verdict.accepted, verdict.reason, verdict.kept) == (False, "Invalid", True)
    assert "`spec.input[0].patterns[0].pattern` must be an expression" in verdict.message
    assert "what was accepted last stays in force" in verdict.message
    assert in_force(result) == {"team/a": ("team/guards",), "team/b": ()}
    assert result.config.policies == first.config.policies


def test_the_installs_policy_is_a_floor() -> None:
    """One of the installation is in force beside the model's own, whatever that says, and in each mode by itself."""
    floor = make_guards("floor", namespace="system", created="2026-05-01T00:00:00Z")
    own = make_guards("own", targetSelector={})
    trial = make_guards("trial", targetSelector={}, mode="Shadow")
    wide = make_guards("wide-trial", namespace="system", mode="Shadow")
    result = compiled([A], own, trial, floor, wide)
    assert set(in_force(result)["team/a"]) == {"system/floor", "system/wide-trial", "team/own", "team/trial"}
    assert all(one.lost == 0 and one.accepted for one in result.policies.values())
    assert set(result.verdicts[A.key].policies) == {entry.id for entry in result.config.policies}


def test_one_policy_of_a_level_and_a_mode() -> None:
    """A second one of the same level is told who is in force instead; the floor stays what it is."""
    floor = make_guards("floor", namespace="system")
    second_floor = make_guards("a-floor", namespace="system", created="2026-05-01T00:00:00Z")
    own = make_guards("own", targetRefs=named("a"))
    rival = make_guards("a-rival", targetRefs=named("a"), created="2026-05-01T00:00:00Z")
    result = compiled([A], floor, second_floor, own, rival)
    assert in_force(result) == {"team/a": ("system/floor", "team/own")}
    assert result.policies["GuardPolicy/system/a-floor"].reason == "Conflicted"
    assert result.policies["GuardPolicy/team/a-rival"].reason == "Conflicted"


def test_kinds_do_not_compete() -> None:
    """A GuardPolicy and a RateLimitPolicy of the same name are two policies, and both are in force."""
    limits = make_policy("same", targetRefs=named("a"))
    guards = make_guards("same", targetRefs=named("a"))
    result = compiled([A], limits, guards)
    assert result.verdicts[A.key].policies == ("GuardPolicy/team/same", "RateLimitPolicy/team/same")
    assert set(result.policies) == {"GuardPolicy/team/same", "RateLimitPolicy/team/same"}


def test_policies_of_a_kind_that_nobody_can_read_stay() -> None:
    """Where the GuardPolicies cannot be read, what is live of them stays; that of other kinds follows what is read."""
    limits, guards = make_policy("one", targetRefs=named("a")), make_guards("two", targetRefs=named("a"))
    first = compiled([A], limits, guards)
    unread = Policies((), lambda key: key.kind == "GuardPolicy")
    after = Compiler().compile([A], policies=unread, live=LiveConfig.of(first.config), rules=RULES)
    assert in_force(after) == {"team/a": ("team/two",)}


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        (
            {"type": "Jailbreak", "classifier": {"modelRef": {"name": "b"}}},
            "the guard 'jailbreak' refuses what it is not sure of, because the LLMModel 'b' is not there",
        ),
        (
            {"type": "Moderation", "modelRef": {"name": "b"}},
            "the guard 'moderation' refuses everything, because the LLMModel 'b' is not there",
        ),
        (
            {"type": "Moderation", "modelRef": {"name": "b"}, "onError": "Open"},
            "the guard 'moderation' looks at nothing, because the LLMModel 'b' is not there",
        ),
    ],
)
def test_a_model_that_is_not_there_is_told(guard: dict[str, Any], said: str) -> None:
    """A policy whose guard asks a model that is not served is accepted, and says what becomes of requests."""
    policy = make_guards(targetRefs=named("a"), input=[guard])
    verdict = compiled([A], policy).policies["GuardPolicy/team/guards"]
    assert verdict.accepted
    assert verdict.message == f"in force on 1 model; {said}"
    assert compiled([A, B], policy).policies["GuardPolicy/team/guards"].message == "in force on 1 model"


def secret_of(policy: Policy) -> tuple[str, str]:
    """The files that the guards of what is asked name."""
    moderation, webhook = body_of(policy).input
    assert isinstance(moderation, ModerationGuard)
    assert isinstance(webhook, WebhookGuard)
    return str(moderation.credentialFile), str(webhook.secretFile)


def asking(url: str = "https://moderation.example.com/v1/moderations", **settings: Any) -> Policy:
    """A policy with two guards that need keys."""
    key = {"name": "keys", "key": "a"}
    return make_guards(
        targetRefs=named("a"),
        input=[
            {"type": "Moderation", "endpoint": {"url": url, "model": "omni", "apiKeySecretRef": key}},
            {"type": "Webhook", "url": "https://guard.example.com/", "secretRef": key},
        ],
        **settings,
    )


def test_keys_are_named_by_file() -> None:
    """A key comes to the gateway as a file, whose name says who asks for which key and where it goes; the config says
    which Secrets to copy, and whose they are."""
    policy = asking()
    files = secret_of(policy)
    assert len(set(files)) == 2
    assert all(is_of_policy(file) and file.count(".") == 3 for file in files)
    result = compiled([A], policy)
    assert result.credentials == dict.fromkeys(files, ("team", "keys", "a"))
    assert set(result.credential_owners.values()) == {PolicyKey("GuardPolicy", "team", "guards")}
    moved = secret_of(asking("https://other.example.com/v1/moderations"))
    assert (moved[0] == files[0], moved[1] == files[1]) == (False, True)
    assert set(secret_of(asking(uid="another"))).isdisjoint(files)
    assert "Secret" not in result.config.text().decode()


def test_keys_of_a_faulty_edit_stay() -> None:
    """What stays in force keeps its keys, although nobody can say any more where they come from."""
    first = compiled([A], asking())
    broken = make_guards(targetRefs=named("a"), input=[{"type": "Regex", "patterns": [{"name": "x", "pattern": "("}]}])
    result = compiled([A], broken, after=first)
    assert result.kept_credentials == set(first.credentials)
    assert result.credentials == {}
    assert compiled([A], after=first).kept_credentials == frozenset()


def test_a_policy_in_force_nowhere_gets_no_keys() -> None:
    """One that is beaten everywhere is not in the config, and its keys are not copied."""
    own = make_guards("an-older", targetRefs=named("a"))
    result = compiled([A], own, asking(created="2026-05-01T00:00:00Z"))
    assert result.policies["GuardPolicy/team/guards"].reason == "Conflicted"
    assert (result.credentials, result.credential_owners) == ({}, {})


@pytest.mark.parametrize(
    ("guard", "field"),
    [
        ({"type": "PII", "regions": ["DE", "UK"]}, "regions[1]"),
        ({"type": "PII", "regions": ["ZZ"]}, "regions[0]"),
        ({"type": "Keywords", "keywords": ["a", " "]}, "keywords[1]"),
        ({"type": "Keywords", "keywords": ["\u200b\u00ad"]}, "keywords[0]"),
        ({"type": "Topics", "deny": [{"name": "a", "phrases": ["\u3000"]}]}, "deny[0].phrases[0]"),
        ({"type": "Topics", "allow": [{"name": "a", "examples": [" "]}]}, "allow[0].examples[0]"),
        ({"type": "Format", "languages": ["xx"]}, "languages[0]"),
    ],
)
def test_what_no_gateway_could_look_for_is_a_fault(guard: dict[str, Any], field: str) -> None:
    """It is told before it is in force: gateways would serve none of the models rather than unguarded ones."""
    stage = "output" if guard["type"] == "Format" else "input"
    faults = find_policy_faults(make_guards(**{stage: [guard]}))
    assert [fault.field for fault in faults] == [f"spec.{stage}[0].{field}"]


def test_a_usual_mistake_is_named() -> None:
    """Great Britain is GB."""
    (fault,) = find_policy_faults(make_guards(input=[{"type": "PII", "regions": ["UK"]}]))
    assert "GB is meant" in fault.message


def test_the_operator_knows_the_codes_that_gateways_know() -> None:
    """Those of the libraries that gateways use, as they are installed."""
    phones = {region for regions in COUNTRY_CODE_TO_REGION_CODE.values() for region in regions} - {"001"}
    assert phones == PHONE_REGIONS
    assert {code for code in known_languages() if len(code) == 2} == LANGUAGES


@pytest.mark.parametrize(
    "word", [" ", "\u200b", "\u3164 ", "\ufe0f", "a", "!", " x ", "\u0301", "\u2800", "\U000e0101"]
)
def test_the_operator_takes_the_words_that_gateways_take(word: str) -> None:
    """What has nothing in it to look for is the same for both."""
    try:
        plain_words([word], what="keywords")
    except ValueError:
        assert says_nothing(word)
    else:
        assert not says_nothing(word)
