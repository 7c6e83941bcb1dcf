from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import CascadeBackend, RouterBackend, referenced_models
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from support.plainmodels import as_deleting, make_model

MODELS = [f"m{number}" for number in range(7)]
NAMESPACES = ["one", "two"]


@st.composite
def _spec(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """An engine, a router or a cascade, of members that may be anything or nothing."""
    others = st.sampled_from([other for other in [*MODELS, "nobody"] if other != name])
    members = draw(st.lists(others, min_size=2, max_size=4, unique=True))
    model = {"task": draw(st.sampled_from(["chat", "chat", "chat", "completion"]))}
    if draw(st.integers(0, 5)) == 0:
        model["servedName"] = draw(st.sampled_from(["fought-over", "m1"]))
    named = [{"name": member} for member in members]
    match draw(st.integers(0, 4)):
        case 0:
            return {"model": model, "router": {"members": named}}
        case 1:
            judge = draw(st.sampled_from(["Judge", "Ensemble", None]))
            estimator = {"type": judge, "judge": {"name": draw(others)}} if judge else {}
            return {"model": model, "cascade": {"members": named, "estimator": estimator}}
        case _:
            return {"model": model, "replicas": draw(st.sampled_from([1, 1, 1, 1, -1]))}


@st.composite
def _models(draw: st.DrawFn) -> list[Model]:
    models = []
    for namespace in NAMESPACES[: draw(st.integers(1, 2))]:
        for name in draw(st.lists(st.sampled_from(MODELS), min_size=1, max_size=7, unique=True)):
            created = draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]))
            model = make_model(name, namespace=namespace, created=created, **draw(_spec(name)))
            models.append(as_deleting(model) if draw(st.integers(0, 9)) == 0 else model)
    return models


def _check(models: list[Model]) -> None:
    compiled = compile_gateway(models)
    entries = {entry.id: entry for entry in compiled.config.models}
    assert entries.keys() == {str(key) for key, verdict in compiled.verdicts.items() if verdict.accepted}
    for entry in entries.values():
        for member in referenced_models(entry.backend):
            assert member.partition("/")[0] == entry.id.partition("/")[0]
            assert not isinstance(entries[member].backend, RouterBackend)
            assert not isinstance(entry.backend, CascadeBackend) or entries[member].backend.kind == "Service"
        if isinstance(entry.backend, RouterBackend):
            assert {entries[member.model].task for member in entry.backend.members} == {entry.task}
    assert join_config(split_config(compiled.config, shard_bytes=2000)) == compiled.config


@given(_models())
def test_removal_of_a_member_never_leaves_a_dangling_id(models: list[Model]) -> None:
    """Whatever is there, and whichever model is taken away, a virtual model only names models that are served."""
    _check(models)
    for gone in models:
        _check([model for model in models if model is not gone])


@given(_models(), st.randoms(use_true_random=False))
def test_order_of_virtual_models_does_not_matter(models: list[Model], random: object) -> None:
    """Members may come before or after what they are members of: the bytes and the verdicts are the same."""
    shuffled = list(models)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = compile_gateway(models), compile_gateway(shuffled)
    assert one.config.model_dump_json() == other.config.model_dump_json()
    assert dict(one.verdicts) == dict(other.verdicts)


@given(_models())
def test_everything_that_is_left_out_is_named(models: list[Model]) -> None:
    """What a virtual model names is in its entry or in its verdict, never in both and never in neither."""
    compiled = compile_gateway(models)
    backends = {entry.id: entry.backend for entry in compiled.config.models}
    for model in models:
        verdict = compiled.verdicts[model.key]
        if model.spec is None or not model.spec.is_virtual or verdict.reason in ("Conflicted", "Deleting"):
            continue
        part = model.spec.router or model.spec.cascade
        assert part is not None
        named = {f"{model.key.namespace}/{member.name}" for member in part.members}
        if model.spec.cascade and (judge := model.spec.cascade.estimator.judge):
            named.add(f"{model.key.namespace}/{judge.name}")
        lost = {str(one.key) for one in verdict.left_out}
        kept = set(referenced_models(backends[str(model.key)])) if verdict.accepted else named - lost
        assert kept | lost == named
