"""Keys of answers: two requests that may have two answers have two keys, and one request has one."""

import json
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.caches import CacheBody, Scope
from capstan_contract.config import ModelEntry, StaticBackend
from capstan_contract.guards import GuardBody, KeywordsGuard, Source, guard_entry
from capstan_gateway.caches.key import EXCLUDED_FIELDS, canonical_request, identity_of, model_of
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.question import question_of
from capstan_gateway.upstream.port import Endpoint
from support.asks import an_ask
from support.served import a_model

WORLDS = 10_000
TENANTS = ["a", "b", "", "user:a", "a b"]
USERS = ["", "ada", "bob", "a"]
MODELS = ["m", "n", "m2"]
REVISIONS = ["", "1", "2"]
NAMES = ["m", "m-adapter", "m-adapter-2"]
TEMPLATES = ["", "m-1", "m-2"]
SYSTEMS = [None, "be brief", "be brief.", "Be brief", "be long"]
PROMPTS = ["why?", "why", "Why?", "why? ", "3 and 4", "4 and 3"]
TOOLS: list[Any] = [None, [], [{"type": "function", "function": {"name": "f"}}], [{"type": "function", "function": {}}]]
PARAMETERS: list[dict[str, Any]] = [
    {}, {"temperature": 0}, {"temperature": 0.0}, {"temperature": 1}, {"max_tokens": 5}, {"max_tokens": 50},
    {"seed": 1}, {"seed": "1"}, {"top_p": 0.5}, {"n": 2}, {"stop": "x"}, {"stop": ["x"]}, {"logprobs": True},
    {"response_format": {"type": "json_object"}}, {"of_tomorrow": None}, {"reasoning_effort": "low"},
]  # fmt: skip
WORDS = [(), ("x",), ("x", "y"), ("y",)]


def _served(name: str, template: str) -> ServedModel:
    model = a_model(name)
    model.endpoints.replace([Endpoint(id="e", host="h", port=1, base_path=b"/v1", template=template)])
    return model


def _identity(model: str, revision: str, words: tuple[str, ...]) -> bytes:
    entry = ModelEntry(
        id=f"t/{model}", servedName=model, upstreamName=model, revision=revision, backend=StaticBackend(urls=())
    )
    guard = KeywordsGuard(name="w", keywords=words or ("-",), appliesTo=(Source.USER,))
    return identity_of(entry, (guard_entry("t", "g", GuardBody(input=(guard,))),) if words else ())


def _document(system: str | None, prompt: str, tools: Any, parameters: dict[str, Any], rng: Random) -> dict[str, Any]:
    messages = [] if system is None else [{"role": "system", "content": system}]
    said = {"model": "m", "messages": [*messages, {"role": "user", "content": prompt}], "tools": tools, **parameters}
    names = list(said)
    rng.shuffle(names)
    return {name: said[name] for name in names}


def test_ten_thousand_permutations_share_nothing() -> None:
    """Of 10,000 permutations of tenant, user, model, revision, adapter, pods, system prompt, tools, parameters and
    guards no two that differ have one key, and the same one has one, whatever the order of its names."""
    rng = Random(12)  # noqa: S311 - no secret
    body = CacheBody.model_validate({"scope": Scope.USER, "bypass": {"tools": False}})
    served = {(name, template): _served(name, template) for name in NAMES for template in TEMPLATES}
    identities = {
        (model, revision, words): _identity(model, revision, words)
        for model in MODELS for revision in REVISIONS for words in WORDS
    }  # fmt: skip
    keys: dict[str, str] = {}
    worlds: dict[str, str] = {}
    while len(worlds) < WORLDS:
        tenant, user, model, revision, words = map(rng.choice, (TENANTS, USERS, MODELS, REVISIONS, WORDS))
        name, template, system, prompt = map(rng.choice, (NAMES, TEMPLATES, SYSTEMS, PROMPTS))
        tools, parameters = rng.choice(TOOLS), rng.choice(PARAMETERS)
        document = _document(system, prompt, tools, parameters, rng)
        who = Principal(tenant=tenant or "-", key="k", user=user)
        plain = an_ask(document=document, principal=who)
        found = question_of(
            Ask(plain.request, plain.model, plain.runtime, 0.0, 1e9, plain.budget, principal=who), body,
            served[name, template], identity=identities[model, revision, words], of=model_of(f"t/{model}"),
        )  # fmt: skip
        assert found is not None
        world = json.dumps(
            [tenant, user, model, revision, words, name, template, system, prompt, tools, parameters],
            sort_keys=True,
        )  # fmt: skip
        assert keys.setdefault(found.key.text, world) == world
        assert worlds.setdefault(world, found.key.text) == found.key.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b", "messages", "seed", *sorted(EXCLUDED_FIELDS)[:3]]), JSON)


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are written alike, but for the order of names: 1, 1.0 and true are three."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return repr(one) == repr(other)


@given(DOCUMENTS, DOCUMENTS)
def test_two_documents_are_written_alike_exactly_when_they_ask_the_same(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Nothing that differs is taken for the same, and the order of names is nothing that differs."""
    kept = [{name: value for name, value in each.items() if name not in EXCLUDED_FIELDS} for each in (one, other)]
    assert (canonical_request(one) == canonical_request(other)) is _alike(*kept)
    assert canonical_request(dict(reversed(one.items()))) == canonical_request(one)
