"""Whose the names are that a request says."""

from typing import Any

import orjson
import pytest

from capstan_contract.config import StickyBy, Strategy
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.parse import translate
from capstan_gateway.pipeline.request import Request
from capstan_gateway.pipeline.route import _sticky
from capstan_gateway.pipeline.whose import said_user, session_of, user_of, with_verified_user
from capstan_gateway.routing.affinity import SharedHeads, affinity_key
from capstan_gateway.selection.plan import RouterPlan
from support.asks import an_ask

CHAT = ROUTES[0]
ANN = Principal(tenant="red", user="ann", key="k1")
RED = Principal(tenant="red", key="k2")
BLUE = Principal(tenant="blue", key="k3")


def chat(**fields: Any) -> Request:
    """Give a chat request as it came."""
    document = {"model": "m", "messages": [], **fields}
    return Request(CHAT, document, False, False, orjson.dumps(document))


def test_a_verified_user_is_the_user_whatever_is_said() -> None:
    """Without one the name is the tenant's own; without a credential it is as it was said."""
    assert {user_of(ANN, said) for said in ("", "ann", "eve")} == {user_of(ANN, "")}
    assert user_of(RED, "ann") == user_of(ANN, "eve")
    assert len({user_of(who, "ann") for who in (RED, BLUE, NOBODY)}) == 3
    assert [user_of(who, "") for who in (RED, NOBODY)] == ["", ""]
    assert user_of(NOBODY, "ann") == "ann"


def test_sessions_are_a_users_own() -> None:
    """What two users, or two tenants, call a session alike are two."""
    assert len({session_of(who, "s") for who in (ANN, RED, BLUE, NOBODY)}) == 4
    assert [session_of(who, "") for who in (ANN, NOBODY)] == ["", ""]
    assert session_of(NOBODY, "s") == "s"


def test_what_says_who_the_user_is() -> None:
    """The safety identifier goes before the user; what is no text says nothing."""
    assert said_user({"user": "a", "safety_identifier": "b"}) == "b"
    assert said_user({"user": "a", "safety_identifier": 5}) == "a"
    assert said_user({}) == ""


@pytest.mark.parametrize("principal", [NOBODY, ANN])
def test_a_request_that_names_nobody_is_left_alone(principal: Principal) -> None:
    """The very same request, bytes and all; without a credential whatever it names."""
    plain = chat()
    assert with_verified_user(plain, principal) is plain
    named = chat(user="eve")
    assert (with_verified_user(named, principal) is named) is (principal is NOBODY)


def test_names_become_those_of_whom_the_credential_verifies() -> None:
    """Each field that was sent, and none that was not; the client's bytes are then not sent."""
    said = chat(user="eve", safety_identifier="eve2")
    told = with_verified_user(said, ANN)
    assert (told.document["user"], told.document["safety_identifier"]) == (user_of(ANN, ""), user_of(ANN, ""))
    assert told.raw is None
    assert said.document["user"] == "eve"
    assert "user" not in with_verified_user(chat(safety_identifier="x"), ANN).document


def test_names_in_the_clients_own_dialect() -> None:
    """So is the id of Anthropic's metadata, in what goes to a model that speaks the dialect."""
    route = next(route for route in ROUTES if route.path == "/v1/messages")
    body = {
        "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], "metadata": {"user_id": "eve"},
    }  # fmt: skip
    request = translate(route, MESSAGES, orjson.dumps(body), [])
    told = with_verified_user(request, ANN)
    assert told.native is not None
    assert told.native.document["metadata"] == {"user_id": user_of(ANN, "")}
    assert b"eve" not in told.native.body
    assert request.native is not None
    assert request.native.document["metadata"] == {"user_id": "eve"}


def test_a_user_keeps_a_member_by_the_credential() -> None:
    """Whatever is said beside it; and users and sessions that two tenants call alike are two."""
    plan = RouterPlan(Strategy.WEIGHTED, StickyBy.USER, None)

    def key(principal: Principal, plan: RouterPlan = plan, **fields: Any) -> bytes | None:
        ask = an_ask(principal=principal)
        ask.request = chat(**fields)
        return _sticky(ask, plan)

    assert key(ANN) == key(ANN, user="eve") == key(ANN, safety_identifier="x") is not None
    assert key(RED, user="ann") == key(ANN)
    assert len({key(who, user="u") for who in (ANN, RED, BLUE, NOBODY)}) == 4
    assert key(RED) is None
    by_session = RouterPlan(Strategy.WEIGHTED, StickyBy.SESSION, None)
    assert len({key(who, by_session, prompt_cache_key="s") for who in (ANN, RED, BLUE, NOBODY)}) == 4


def test_a_session_finds_its_endpoint_only_for_whose_it_is() -> None:
    """Keys of caches and sessions are within whose they are; the prompt's own beginning is the same for all."""
    heads = SharedHeads()

    def key(whose: str, **said: Any) -> bytes | None:
        return affinity_key({"prompt": "x" * 300, **said}, heads, endpoints=1, whose=whose, session=said.pop("s", ""))

    assert key("a", prompt_cache_key="k") != key("b", prompt_cache_key="k") != key("", prompt_cache_key="k")
    assert key("a", s="k") != key("b", s="k")
    assert key("a") == key("b") == key("")
