"""What a reader does not know it does not serve: the rules of `requires` and of policies."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from capstan_contract.config import (
    CascadeBackend,
    CascadeEstimator,
    ConfigError,
    EstimatorType,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    RouterBackend,
    RouterMember,
    StaticBackend,
    digest,
)
from capstan_contract.names import CONFIG_FILE
from capstan_contract.reading import ConfigReader, Reading
from capstan_contract.requirements import KNOWN, Known
from capstan_contract.sharding import split_config

GUARD = PolicyEntry(id="Guard/team/strict", kind="Guard", body={"blocks": ["x"]})
KNOWS_GUARDS = Known(policy_kinds=frozenset(("Guard",)))


def model(name: str, **fields: Any) -> ModelEntry:
    """Give a model."""
    given = {"id": f"team/{name}", "servedName": name, "upstreamName": name, "backend": StaticBackend(urls=())}
    return ModelEntry(**{**given, **fields})


def router(name: str, *members: str, **fields: Any) -> ModelEntry:
    """Give a router."""
    backend = RouterBackend(members=tuple(RouterMember(model=f"team/{member}") for member in members))
    return model(name, backend=backend, **fields)


def cascade(
    name: str, *members: str, judge: str | None = None, kind: EstimatorType = EstimatorType.CHECKS
) -> ModelEntry:
    """Give a cascade."""
    estimator = CascadeEstimator(type=kind, judge=judge and f"team/{judge}", judgeTimeoutSeconds=3)
    backend = CascadeBackend(members=tuple(f"team/{member}" for member in members), estimator=estimator)
    return model(name, backend=backend)


def read(*models: ModelEntry, known: Known = KNOWN, policies: tuple[PolicyEntry, ...] = (), **more: Any) -> Reading:
    """Read a config of these models."""
    config = GatewayConfig.build(models, policies=policies, **more)
    reading = ConfigReader(known=known).read(split_config(config))
    assert reading.config.hash == config.hash
    return reading


def served(reading: Reading) -> set[str]:
    """Give the names that are left."""
    return {entry.servedName for entry in reading.config.models}


def edited(change: dict[str, Any], *models: ModelEntry) -> Reading:
    """Read a config of which the first model was written by a release that knows more than this one."""
    document = json.loads(split_config(GatewayConfig.build(models))[CONFIG_FILE])
    for entry in document["models"]:
        if entry["id"] == models[0].id:
            entry.update(change)
    document["hash"] = digest(document)
    return ConfigReader().read({CONFIG_FILE: json.dumps(document)})


def test_an_entry_with_an_unknown_requirement_is_refused_alone() -> None:
    """Every other model is served, and the refused one is named with what is not known."""
    reading = read(model("a", requires=("mtls", "guard/v2")), model("b"), known=Known(frozenset(("mtls",))))
    assert served(reading) == {"b"}
    assert reading.refused == {"team/a": ("guard/v2",)}


def test_an_entry_whose_requirements_are_known_is_served() -> None:
    """A requirement is no obstacle for who knows it."""
    reading = read(model("a", requires=("mtls",)), known=Known(frozenset(("mtls",))))
    assert (served(reading), reading.refused) == ({"a"}, {})


def test_this_release_knows_three_kinds_of_policies_and_three_requirements() -> None:
    """What is added to KNOWN has to be built first."""
    kinds = frozenset(("RateLimitPolicy", "GuardPolicy", "CachePolicy"))
    assert (
        Known(requirements=frozenset(("tenantSalt", "cacheEmbedding", "transcriptions")), policy_kinds=kinds) == KNOWN
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"limits": [{"name": "x"}]}, "field/body.limits.0.per: Field required"),
        ({"mode": "Perhaps"}, "field/body.mode: Input should be 'Enforce' or 'Shadow'"),
        (
            {
                "budgets": [
                    {"name": "b", "per": "Key", "nanoDollars": 1, "period": {"type": "Day", "timeZone": "Mars/Olympus"}}
                ]
            },
            "field/body.budgets.0.period.timeZone: Value error, is not the name of a time zone in the IANA database",
        ),
    ],
)
def test_limits_that_cannot_be_read_refuse_the_policy_and_its_models(body: dict[str, Any], why: str) -> None:
    """A body that is wrong protects nothing: nobody is served without it, and others are not concerned."""
    limits = PolicyEntry(id="RateLimitPolicy/team/p", kind="RateLimitPolicy", body=body)
    reading = read(model("a", policies=(limits.id,)), model("b"), policies=(limits,))
    assert served(reading) == {"b"}
    assert reading.refused == {limits.id: (why,), "team/a": (f"policy/{limits.id}",)}


def test_a_body_may_say_more_than_this_release_knows() -> None:
    """What must not be ignored is said by `requires`."""
    limits = PolicyEntry(id="RateLimitPolicy/team/p", kind="RateLimitPolicy", body={"later": 1})
    assert served(read(model("a", policies=(limits.id,)), policies=(limits,))) == {"a"}


def test_a_config_that_requires_what_is_not_known_is_no_config() -> None:
    """As a whole, because nobody can say which of it could be served."""
    with pytest.raises(ConfigError, match="requires what this release does not know: guard/v2"):
        read(model("a"), requires=("guard/v2",))
    assert served(read(model("a"), requires=("mtls",), known=Known(frozenset(("mtls",))))) == {"a"}


def test_the_schema_version_says_whether_anything_is_required() -> None:
    """Version 2 is what readers from before `requires` refuse as a whole; without need it is not written."""
    assert GatewayConfig.build((model("a"),)).schemaVersion == 1
    assert GatewayConfig.build((model("a", requires=("x",)),)).schemaVersion == 2
    assert GatewayConfig.build((model("a"),), requires=("x",)).schemaVersion == 2
    assert GatewayConfig.build((model("a"),), policies=(GUARD,)).schemaVersion == 2


def test_what_cannot_be_read_is_refused_before_it_is_read() -> None:
    """A refused entry may have a form that this release has never seen."""
    unseen = {"requires": ["pipelines"], "backend": {"kind": "Pipeline", "stages": []}}
    reading = edited(unseen, model("a"), model("b"))
    assert (served(reading), reading.refused) == ({"b"}, {"team/a": ("pipelines",)})


def test_an_entry_that_cannot_be_read_costs_nobody_else() -> None:
    """It is named with the field; the hash fits, so the fault is in this entry and nowhere else."""
    reading = edited({"weight": -1}, model("a"), model("b"))
    assert served(reading) == {"b"}
    (objection,) = reading.refused["team/a"]
    assert objection.startswith("field/weight: ")


@pytest.mark.parametrize(
    "change", [{"requires": "guard"}, {"requires": [1]}, {"policies": {"a": 1}}, {"policies": [7]}]
)
def test_requirements_of_another_form_are_not_taken_for_none(change: dict[str, Any]) -> None:
    """What does not look like requirements is no licence to serve."""
    reading = edited(change, model("a"), model("b"))
    assert served(reading) == {"b"}
    assert reading.refused == {"team/a": tuple(f"{field}/unreadable" for field in change)}


def test_an_entry_without_an_id_is_no_config() -> None:
    """Nobody could say what is refused."""
    with pytest.raises(ConfigError, match=r"models\.0: has no `id`"):
        edited({"id": None}, model("a"))


def test_a_policy_of_an_unknown_kind_takes_its_models_with_it() -> None:
    """No model is served without its guard; models without it are."""
    reading = read(model("a", policies=(GUARD.id,)), model("b"), policies=(GUARD,))
    assert served(reading) == {"b"}
    assert reading.config.policies == ()
    assert reading.refused == {GUARD.id: ("kind/Guard",), "team/a": (f"policy/{GUARD.id}",)}


def test_a_policy_that_is_known_is_enforced() -> None:
    """It arrives with its body, and its models are served."""
    reading = read(model("a", policies=(GUARD.id,)), policies=(GUARD,), known=KNOWS_GUARDS)
    assert (served(reading), reading.refused) == ({"a"}, {})
    assert reading.config.policies == (GUARD,)


def test_a_policy_may_require_more_than_its_kind() -> None:
    """A kind that is known can have a version that is not."""
    strict = GUARD.model_copy(update={"requires": ("guard/v2",)})
    reading = read(model("a", policies=(GUARD.id,)), policies=(strict,), known=KNOWS_GUARDS)
    assert served(reading) == set()
    assert reading.refused == {GUARD.id: ("guard/v2",), "team/a": (f"policy/{GUARD.id}",)}


def test_a_policy_that_is_missing_is_not_taken_for_none() -> None:
    """The writer does not write such a config; a reader refuses the model all the same."""
    with pytest.raises(ValueError, match="names the policy 'Guard/team/strict', which is not in the config"):
        GatewayConfig.build((model("a", policies=(GUARD.id,)),))
    reading = edited({"policies": [GUARD.id]}, model("a"), model("b"))
    assert (served(reading), reading.refused) == ({"b"}, {"team/a": (f"policy/{GUARD.id}",)})


def test_policies_are_in_shards_too() -> None:
    """A config is joined with its policies, wherever it was cut."""
    policies = tuple(PolicyEntry(id=f"Guard/team/g{n}", kind="Guard", body={"n": n}) for n in range(30))
    models = [model(f"m{n}", policies=(policies[n].id,)) for n in range(30)]
    config = GatewayConfig.build(models, policies=policies)
    documents = split_config(config, shard_bytes=6000)
    assert len(documents) > 3
    assert ConfigReader(known=KNOWS_GUARDS).read(documents) == Reading(config)


REFUSED = {"requires": ("guard/v2",)}


def test_a_virtual_model_does_without_a_refused_member() -> None:
    """A router and a cascade go on with the members that are left."""
    reading = read(
        model("a", **REFUSED), model("b"), router("r", "a", "b"), cascade("c", "a", "b"), router("over", "c", "a")
    )
    backends = {entry.servedName: entry.backend for entry in reading.config.models}
    assert served(reading) == {"b", "r", "c", "over"}
    assert [member.model for member in backends["r"].members] == ["team/b"]  # type: ignore[union-attr]
    assert backends["c"].members == ("team/b",)  # type: ignore[union-attr]
    assert [member.model for member in backends["over"].members] == ["team/c"]  # type: ignore[union-attr]


def test_a_virtual_model_of_which_nothing_is_left_is_refused() -> None:
    """Also through another virtual model; it is named with the members that are missing."""
    reading = read(model("a", **REFUSED), cascade("c", "a"), router("over", "c", "a"), model("b"))
    assert served(reading) == {"b"}
    assert reading.refused == {
        "team/a": ("guard/v2",),
        "team/c": ("member/team/a",),
        "team/over": ("member/team/c", "member/team/a"),
    }


def test_a_cascade_needs_its_judge_only_if_it_asks_it() -> None:
    """Without the judge of the estimator Judge nobody can say whether an answer is good enough."""
    judged = cascade("judged", "b", judge="a", kind=EstimatorType.JUDGE)
    reading = read(model("a", **REFUSED), model("b"), judged, cascade("other", "b", judge="a"))
    assert served(reading) == {"b", "other"}
    assert reading.refused["team/judged"] == ("member/team/a",)


def test_a_refused_virtual_model_leaves_its_members() -> None:
    """What is refused is the entry, and not what it refers to."""
    assert served(read(model("b"), router("r", "b", **REFUSED))) == {"b"}


@pytest.mark.parametrize("kind", [["Guard"], {"Guard": 1}, None, 7, True])
def test_a_kind_that_is_no_text_is_refused(kind: object) -> None:
    """A policy whose kind is a list or an object is refused as any that is not known, and takes its models with it."""
    document = json.loads(
        split_config(GatewayConfig.build((model("a"), model("b", policies=(GUARD.id,))), policies=(GUARD,)))[
            CONFIG_FILE
        ]
    )
    document["policies"][0]["kind"] = kind
    document["hash"] = digest(document)
    reading = ConfigReader(known=KNOWS_GUARDS).read({CONFIG_FILE: json.dumps(document)})
    assert served(reading) == {"a"}
    assert reading.refused == {GUARD.id: ("kind/unreadable",), "team/b": (f"policy/{GUARD.id}",)}


def test_what_cannot_be_enforced_leaves_the_policy_before_in_force() -> None:
    """A reader that knows better what it can enforce goes on with the body that it could, of the very same policy, and
    says so; one that never could, or where something else is missing, serves none of the models."""

    def check(body: Mapping[str, Any]) -> None:
        if body.get("engine") == "Presidio":
            raise ValueError("not installed")

    known = Known(policy_kinds=frozenset(("Guard",)), bodies={"Guard": check})
    reader = ConfigReader(known=known)

    def read_next(engine: str, uid: str = "1", **more: Any) -> Reading:
        guard = PolicyEntry(id=GUARD.id, kind="Guard", uid=uid, body={"engine": engine}, **more)
        config = GatewayConfig.build((model("a", policies=(GUARD.id,)),), policies=(guard,))
        return reader.read(split_config(config))

    assert served(read_next("Presidio")) == set()
    assert read_next("BuiltIn").refused == {}
    for _ in range(2):
        found = read_next("Presidio")
        assert served(found) == {"a"}
        assert [one.body for one in found.config.policies] == [{"engine": "BuiltIn"}]
        assert found.refused == {GUARD.id: ("field/body: not installed", "kept/body")}
    assert served(read_next("Presidio", requires=("more",))) == set()
    assert served(read_next("Presidio")) == set(), "what was refused as a whole is in force no more"
    assert read_next("BuiltIn").refused == {}
    assert served(read_next("Presidio", uid="2")) == set(), "another policy of the same name"


def test_what_is_no_config_as_a_whole_says_nothing_of_what_could_be_enforced_last() -> None:
    """The policy in it was never in force: the one of the config before is."""

    def check(body: Mapping[str, Any]) -> None:
        if body["engine"] == "Presidio":
            raise ValueError("not installed")

    reader = ConfigReader(known=Known(policy_kinds=frozenset(("Guard",)), bodies={"Guard": check}))

    def documents(engine: str) -> dict[str, Any]:
        guard = PolicyEntry(id=GUARD.id, kind="Guard", uid="1", body={"engine": engine})
        config = GatewayConfig.build((model("a", policies=(GUARD.id,)),), policies=(guard,))
        document: dict[str, Any] = json.loads(split_config(config)[CONFIG_FILE])
        return document

    def read_next(document: dict[str, Any]) -> Reading:
        return reader.read({CONFIG_FILE: json.dumps({**document, "hash": digest(document)})})

    read_next(documents("First"))
    faulty = documents("Never")
    faulty["models"].append({**faulty["models"][0], "id": "team/other"})
    with pytest.raises(ConfigError):
        read_next(faulty)
    assert [one.body for one in read_next(documents("Presidio")).config.policies] == [{"engine": "First"}]
