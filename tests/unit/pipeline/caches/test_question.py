"""What a request asks of a cache, and whether it may be looked for at all."""

from typing import Any

import pytest

from capstan_contract.caches import Bypass, CacheBody, HeaderMatch, Scope
from capstan_gateway.caches.key import model_of
from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.headers import Header
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.question import MOST_VALUES, Question, names_addresses, question_of
from capstan_gateway.pipeline.replaced import Value
from capstan_gateway.upstream.port import Endpoint
from support.asks import an_ask
from support.served import a_model

MESSAGES: Any = [{"role": "user", "content": "why?"}]


def model(name: str = "m", *templates: str) -> ServedModel:
    """Give a model with an endpoint of each template."""
    made = a_model(name)
    made.endpoints.replace(
        Endpoint(id=f"e{number}", host="h", port=number + 1, base_path=b"/v1", template=template)
        for number, template in enumerate(templates or ("",))
    )
    return made


def ask(document: dict[str, Any] | None = None, *, who: Principal = NOBODY, headers: tuple[Header, ...] = ()) -> Ask:
    """Give an ask."""
    made = an_ask(document={"model": "m", "messages": MESSAGES, **(document or {})}, principal=who)
    return Ask(
        made.request, made.model, made.runtime, 0.0, 1e9, made.budget, principal=who, headers=headers,
    )  # fmt: skip


def question(of: Ask, body: CacheBody | None = None, at: ServedModel | None = None) -> Question | None:
    """Give what is looked for."""
    at = at or model()
    return question_of(of, body or CacheBody(), at, identity=b"i", of=model_of(at.id))


def key(of: Ask, body: CacheBody | None = None, at: ServedModel | None = None) -> str:
    """Give the key."""
    found = question(of, body, at)
    assert found is not None
    return found.key.text


def test_an_adapter_of_a_model_is_not_the_model() -> None:
    """Each name that a model is served by has answers of its own."""
    base, other = model(), model()
    other.upstream_name = "a"
    assert key(ask(), at=base) != key(ask(), at=other)


@pytest.mark.parametrize("scope", [Scope.USER, Scope.TENANT, Scope.MODEL])
def test_what_guards_have_redacted_is_of_one_user(scope: Scope) -> None:
    """Whatever the scope says, nobody else is given an answer to a text of which something was taken out; a user whom
    the client names is one of the key's."""
    people = [
        Principal(tenant="t", key="k", user="ada"), Principal(tenant="t", key="k", user="bob"),
        Principal(tenant="t", key="l"), Principal(tenant="u", key="k", user="ada"),
    ]  # fmt: skip
    body, keys = CacheBody(scope=scope), []
    for who in people:
        redacted, masked = ask(who=who), ask(who=who)
        redacted.names().add("EMAIL_1")
        masked.note_replaced([("a", "b")], [Value("a", "a", "***")])
        assert key(redacted, body) == key(masked, body)
        keys.append(key(redacted, body))
    for said in ("ada", "bob"):
        one = ask({"user": said}, who=people[2])
        one.names().add("EMAIL_1")
        keys.append(key(one, body))
    assert len(set(keys)) == len(keys)


def test_what_is_redacted_of_nobody_is_not_looked_for() -> None:
    """Without a name nobody can tell whose it is."""
    redacted = ask()
    redacted.names().add("EMAIL_1")
    assert question(redacted, CacheBody(scope=Scope.MODEL)) is None
    assert question(ask(), CacheBody(scope=Scope.USER)) is None


def test_while_pods_differ_nothing_is_looked_for() -> None:
    """During a rollout nobody knows which of the two answers; another template is another key."""
    assert question(ask(), at=model("m", "m-1", "m-2")) is None
    assert key(ask(), at=model("m", "m-1", "m-1")) == key(ask(), at=model("m", "m-1"))
    assert key(ask(), at=model("m", "m-1")) != key(ask(), at=model("m", "m-2"))


@pytest.mark.parametrize(
    ("document", "apart"),
    [({}, False), ({"temperature": 0, "tools": None}, False), ({"return_token_ids": True}, True), ({"odd": 1}, True)],
)
def test_a_stream_is_an_answer_in_one_piece_where_nothing_is_lost_between_them(
    document: dict[str, Any], apart: bool
) -> None:
    """With fields that change what an answer is made of, the two are kept apart."""
    assert (key(ask(document)) != key(ask({**document, "stream": True}))) is apart


@pytest.mark.parametrize(
    "document",
    [
        {"store": True},
        {"web_search_options": {}},
        {"previous_response_id": "resp_1"},
        {"search_parameters": {"mode": "auto"}},
        {"prompt": {"id": "pmpt_1"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "HTTPS://a/b.png"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "s3://bucket/b.png"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"images": ["file:///tmp/cat.png"]},
    ],
)
def test_what_depends_on_more_than_the_request_is_not_looked_for(document: dict[str, Any]) -> None:
    """What is looked up elsewhere may be something else tomorrow, and what is to be done is not done by an answer."""
    assert question(ask(document), CacheBody(bypass=Bypass(tools=False))) is None


@pytest.mark.parametrize(
    "document",
    [
        {"model": "llama3:8b", "messages": [{"role": "user", "content": "what is https://example.org ?"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "https://example.org"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;,x"}}]}]},
        {"input": ["https://example.org", "http://b"]},
        {"response_format": {"json_schema": {"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}}},
    ],
)
def test_an_address_that_is_only_said_is_a_word_like_others(document: dict[str, Any]) -> None:
    """Nobody follows it."""
    assert not names_addresses(document)


class Read(dict[str, Any]):
    """A part of a request that must not be read value by value."""

    def items(self) -> Any:
        """Fail."""
        pytest.fail("it was read")


def test_a_request_without_a_mark_of_an_address_is_not_read_value_by_value() -> None:
    """Of two megabytes of numbers that took tenths of a second, in which nobody else was served."""
    assert question(ask({"odd": Read(x=[1] * 10)})) is not None
    assert question(ask({"metadata": {"where": "https://example.org"}})) is not None


def test_a_request_with_too_many_values_and_a_mark_of_an_address_is_left_alone() -> None:
    """Nobody reads all of them."""
    document = {"odd": [1] * (MOST_VALUES + 1), "messages": [{"role": "user", "content": "what is https://a.example"}]}
    assert question(ask(document)) is None
    assert question(ask({**document, "odd": [1] * 100})) is not None


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        ({"tools": [{"type": "function"}]}, ()),
        ({"temperature": 0.6}, ()),
        ({}, ()),
        ({"temperature": "0.1"}, ()),
        ({"temperature": 0}, ((b"x-fresh", b"yes"),)),
        ({"temperature": 0}, ((b"cache-control", b"max-age=60"), (b"cache-control", b"no-store"))),
    ],
)
def test_a_policy_says_what_is_left_alone(document: dict[str, Any], headers: tuple[Header, ...]) -> None:
    """Tools, temperatures (also the one that engines take where none is said), headers, and what the client forbids."""
    bypass = Bypass(temperatureAbove=0.5, headers=(HeaderMatch(name="x-fresh", values=("yes",)),))
    assert question(ask(document, headers=headers), CacheBody(bypass=bypass)) is None
    assert question(ask({"temperature": 0}, headers=((b"x-fresh", b"no"),)), CacheBody(bypass=bypass)) is not None
