"""What a body must look like for its model, each rule by itself."""

import re
from typing import Any

import pytest

from capstan_contract.config import (
    Capability,
    Compatibility,
    ExternalBackend,
    ExternalEndpoint,
    MaxTokens,
    ModelEntry,
    Provider,
    ReasoningHistory,
    StaticBackend,
    SystemMessages,
    ToolIds,
)
from capstan_gateway.dialects.signatures import is_ours, read_signature, signature_of
from capstan_gateway.dialects.targets.chat import shape
from capstan_gateway.dialects.targets.ids import PairedIds, fitting_id
from capstan_gateway.dialects.targets.media import fitting_file, fitting_url, split_data_url
from capstan_gateway.dialects.targets.native import shape_native
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.dialects.targets.reasoning import place_reasoning
from capstan_gateway.dialects.targets.system import place_system
from capstan_gateway.dialects.targets.target import Target
from capstan_gateway.dialects.upstreams.anthropic_request import to_messages_request
from capstan_gateway.errors import InvalidRequest

S1, S2 = {"role": "system", "content": "S1"}, {"role": "system", "content": "S2"}
U1, U2 = {"role": "user", "content": "u1"}, {"role": "user", "content": "u2"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "w", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "r"}
NOTE = "<system-reminder>\nS2\n</system-reminder>"


def target(provider: Provider | None = None, *, reasons: bool = False, **fields: Any) -> Target:
    """A model of this kind: without a provider an engine."""
    backend: Any = StaticBackend(urls=())
    if provider is not None:
        endpoint = ExternalEndpoint(name="one", url="https://api.example.com/v1")
        backend = ExternalBackend(provider=provider, endpoints=(endpoint,))
    capabilities = (Capability.REASONING,) if reasons else ()
    entry = ModelEntry(
        id="ns/m", servedName="m", upstreamName="m", backend=backend, capabilities=capabilities, **fields
    )
    return Target.of(entry)


@pytest.mark.parametrize(
    ("messages", "placed"),
    [
        ([S1, U1, S2], [S1, {"role": "user", "content": f"u1\n\n{NOTE}"}]),
        ([S1, S2, U1], [{"role": "system", "content": "S1\n\nS2"}, U1]),
        ([S1, U1, S2, U2], [S1, {"role": "user", "content": f"u1\n\n{NOTE}\n\nu2"}]),
        ([U1, CALL, S2, RESULT], [U1, CALL, RESULT, {"role": "user", "content": NOTE}]),
        ([U1, CALL, S2, RESULT, U2], [U1, CALL, RESULT, {"role": "user", "content": f"{NOTE}\n\nu2"}]),
        ([{"role": "developer", "content": "S1"}, U1], [S1, U1]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}]}, S2],
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": NOTE}]}],
        ),
    ],
)
def test_later_system_messages_become_marked_turns_of_the_user(messages: list[Any], placed: list[Any]) -> None:
    """They keep their place, stand behind the results of calls, and no two turns of the user follow each other."""
    assert place_system(messages, SystemMessages.AS_USER) == placed


def test_system_messages_join_the_first() -> None:
    """With `First` the conversation begins with all of them, in their order."""
    joined = {"role": "system", "content": "S1\n\nS2"}
    assert place_system([S1, U1, S2], SystemMessages.FIRST) == [joined, U1]
    assert place_system([U1, S2], SystemMessages.FIRST) == [S2, U1]


@pytest.mark.parametrize("how", SystemMessages)
def test_what_is_in_its_place_is_the_same_object(how: SystemMessages) -> None:
    """Where nothing changes the bytes of the client can pass."""
    for messages in ([S1, U1], [U1], []):
        assert place_system(messages, how) is messages
    assert place_system([U1, S2], SystemMessages.ANYWHERE) == [U1, S2]


def test_earlier_reasoning_goes_back_under_one_name_or_not_at_all() -> None:
    """DeepSeek, Kimi and Qwen read `reasoning_content`; a turn of nothing but dropped thoughts goes with them."""
    both = {**CALL, "reasoning": "t"}
    assert place_reasoning([both], keep=True) == [{**CALL, "reasoning_content": "t"}]
    assert place_reasoning([U1, both], keep=False) == [U1, CALL]
    thought = {"role": "assistant", "content": "", "reasoning_content": "t"}
    assert shape({"messages": [U1, thought]}, target(), translated=True)["messages"] == [U1]
    plain = [U1, CALL]
    assert place_reasoning(plain, keep=True) is plain
    assert place_reasoning(plain, keep=False) is plain


def test_reasoning_is_passed_to_engines_that_reason_unless_somebody_says_otherwise() -> None:
    """The setting wins; without one OpenAI, and models that do not reason, get none."""
    keep, drop = (Compatibility(reasoningHistory=how) for how in (ReasoningHistory.PASS, ReasoningHistory.DROP))
    assert target(reasons=True).wants_reasoning
    assert target(Provider.OPENAI_COMPATIBLE, reasons=True).wants_reasoning
    assert not target().wants_reasoning
    assert not target(Provider.OPENAI, reasons=True).wants_reasoning
    assert target(compatibility=keep).wants_reasoning
    assert not target(reasons=True, compatibility=drop).wants_reasoning


def test_a_limit_above_the_models_own_is_lowered_or_refused() -> None:
    """Clamp is the default; `Refuse` names the field and the number."""
    asked = {"messages": [U1], "max_tokens": 32000}
    assert shape(asked, target(maxOutputTokens=16384), translated=False)["max_tokens"] == 16384
    assert shape(asked, target(maxOutputTokens=40000), translated=False) is asked
    refusing = target(maxOutputTokens=16384, compatibility=Compatibility(maxTokens=MaxTokens.REFUSE))
    with pytest.raises(InvalidRequest, match="must be at most 16384") as told:
        shape(asked, refusing, translated=False)
    assert told.value.param == "max_tokens"


@pytest.mark.compatibility(
    table="requests",
    row="`max_tokens` above the model's own",
    does="lowered, or refused: `maxTokens`",
    sends="Claude Code, Cline",
    source="https://github.com/cline/cline/issues/13229",
)
@pytest.mark.parametrize(
    ("provider", "field"), [(Provider.ANTHROPIC, "max_tokens"), (Provider.OPENAI, "max_output_tokens")]
)
def test_the_same_of_a_native_request(provider: Provider, field: str) -> None:
    """A model has one limit, in whatever dialect it is asked; the error names the field that the client wrote."""
    asked = {"messages": [U1], "input": "x", field: 32000}
    assert shape_native(asked, target(provider, maxOutputTokens=16384))[field] == 16384
    assert shape_native(asked, target(provider, maxOutputTokens=40000)) is asked
    assert shape_native(asked, target(provider, contextWindow=20000))[field] < 20000
    refusing = target(provider, maxOutputTokens=16384, compatibility=Compatibility(maxTokens=MaxTokens.REFUSE))
    with pytest.raises(InvalidRequest) as told:
        shape_native(asked, refusing)
    assert told.value.param == field


def test_a_budget_of_thoughts_stays_below_a_lowered_limit() -> None:
    """Anthropic refuses one that is not smaller than the whole answer; where there is no room for one there is none."""
    asked = {"messages": [U1], "max_tokens": 32000, "thinking": {"type": "enabled", "budget_tokens": 20000}}
    shaped = shape_native(asked, target(Provider.ANTHROPIC, maxOutputTokens=8192))
    assert (shaped["max_tokens"], shaped["thinking"]["budget_tokens"]) == (8192, 8191)
    small = {**asked, "thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert shape_native(small, target(Provider.ANTHROPIC, maxOutputTokens=8192))["thinking"] is small["thinking"]
    assert shape_native(asked, target(Provider.ANTHROPIC, maxOutputTokens=500))["thinking"] == {"type": "disabled"}
    wrong = {**asked, "max_tokens": 10}
    assert shape_native(wrong, target(Provider.ANTHROPIC, maxOutputTokens=8192)) is wrong


def test_a_limit_leaves_room_for_the_prompt_in_the_window() -> None:
    """Claude Code asks for 32,000 tokens of a window of 28,672; a prompt that fills it is for the engine to refuse."""
    asked = {"messages": [{"role": "user", "content": "word " * 4000}], "max_tokens": 32000}
    fit = shape(asked, target(contextWindow=28672), translated=True)["max_tokens"]
    assert 20000 < fit < 28672 - 5000
    assert shape(asked, target(contextWindow=4000), translated=True)["max_tokens"] == 32000


def test_a_limit_that_may_fit_is_left_as_it_is() -> None:
    """An estimate takes nothing away from who asks for what the window may hold; a least length goes down with it."""
    asked = {"messages": [U1], "max_tokens": 2000, "min_tokens": 2000}
    assert shape(asked, target(contextWindow=2048), translated=False) is asked
    lower = shape(asked, target(maxOutputTokens=100), translated=False)
    assert (lower["max_tokens"], lower["min_tokens"]) == (100, 100)
    assert shape({**asked, "min_tokens": 5}, target(maxOutputTokens=100), translated=False)["min_tokens"] == 5


def test_what_an_agent_says_of_itself_goes_nowhere() -> None:
    """Paths, remotes and ids of an installation stay here, on every route; the rest of the request is as it was."""
    said = {"messages": [U1], "client_metadata": {"workspaces": {"/home/me": {}}}}
    for provider in (None, *Provider):
        assert shape(said, target(provider), translated=False) == {"messages": [U1]}
        assert shape_native(said, target(provider)) == {"messages": [U1]}


def test_a_user_becomes_a_hash_that_only_this_installation_can_make() -> None:
    """It is stable, at most 64 characters, differs between models and installations, and tells nothing of the name."""
    names = Pseudonyms(b"k" * 32)
    hashed = names.of("alice@example.com", at="ns/m")
    assert hashed == Pseudonyms(b"k" * 32).of("alice@example.com", at="ns/m")
    assert re.fullmatch(r"u_[0-9a-f]{32}", hashed)
    others = {names.of("alice@example.com", at="ns/other"), names.of("alice@example.co", at="ns/m")}
    others |= {Pseudonyms(key).of("alice@example.com", at="ns/m") for key in (b"l" * 32, b"k" * 31, b"k" * 80, None)}
    assert len({hashed, *others}) == 7
    names.set_key(b"l" * 32)
    assert names.of("alice@example.com", at="ns/m") in others
    with pytest.raises(ValueError, match="16 bytes"):
        names.set_key(b"short")


DEVICE = '{"device_id":"' + "a" * 64 + '","account_uuid":"","session_id":"8f2c"}'


@pytest.mark.compatibility(
    table="requests",
    row="`user`, `safety_identifier`, `metadata.user_id`",
    does="a hash with a key of the installation",
    sends="Claude Code, clients",
    source="https://github.com/looplj/axonhub/issues/1669",
)
@pytest.mark.parametrize("name", ["alice", "alice@example.com", "u-1", DEVICE])
def test_no_name_of_a_user_goes_out(name: str) -> None:
    """Neither a plain one nor an address nor an agent's: not to a hosted API on any route, nor in a translation."""
    said = {"messages": [U1], "user": name, "safety_identifier": name}
    for provider in Provider:
        for translated in (True, False):
            shaped = shape(said, target(provider), translated=translated)
            assert name not in (shaped["user"], shaped["safety_identifier"])
    assert shape(said, target(), translated=True)["user"] != name
    assert shape(said, target(), translated=False) is said
    native = {"input": "x", "user": name, "safety_identifier": name}
    assert name not in list(shape_native(native, target(Provider.OPENAI)).values())
    own = {"messages": [U1], "metadata": {"user_id": name, "other": 1}}
    told = shape_native(own, target(Provider.ANTHROPIC))["metadata"]
    assert (told["user_id"][:2], told["other"]) == ("u_", 1)


def test_a_key_of_a_cache_is_hidden_where_it_may_tell_of_somebody() -> None:
    """Codex' is a random id and finds the same cache from every replica; an address does not go out."""
    plain = {"messages": [U1], "prompt_cache_key": "8f2c7b1e-0c4f-4a7b-9d55-1f0f3f6f3c11"}
    assert shape(plain, target(Provider.OPENAI), translated=True)["prompt_cache_key"] == plain["prompt_cache_key"]
    for key in ("alice@example.com", "x" * 65, "a b"):
        hidden = shape({**plain, "prompt_cache_key": key}, target(Provider.OPENAI), translated=False)
        assert hidden["prompt_cache_key"].startswith("u_")


def test_effort_is_left_out_where_openai_refuses_it() -> None:
    """Their chat completions take none beside tools, and models that do not reason none at all; engines keep it."""
    asked = {"messages": [U1], "tools": [{}], "reasoning_effort": "high"}
    bare = {**asked, "tools": []}
    reasons, plain = target(Provider.OPENAI, reasons=True), target(Provider.OPENAI)
    assert "reasoning_effort" not in shape(asked, reasons, translated=True)
    assert shape(bare, reasons, translated=True) is bare
    assert shape(asked, reasons, translated=True, responses=True) is asked
    assert "reasoning_effort" not in shape(asked, plain, translated=True)
    assert "reasoning_effort" not in shape(bare, plain, translated=True)
    assert shape(asked, target(), translated=True) is asked
    assert shape(asked, plain, translated=False) is asked


def test_chat_passes_as_it_is_unless_its_owner_says_so() -> None:
    """A client of chat completions says what it means; engines only get `system` for `developer`."""
    said = {"messages": [S1, U1, {**S2}, {**CALL, "reasoning": "t"}]}
    assert shape(said, target(), translated=False) is said
    first = shape(said, target(compatibility=Compatibility(systemMessages=SystemMessages.FIRST)), translated=False)
    assert [message["role"] for message in first["messages"]] == ["system", "user", "assistant"]
    developer = {"messages": [{"role": "developer", "content": "D"}, U1]}
    assert shape(developer, target(), translated=False)["messages"][0] == {"role": "system", "content": "D"}
    assert shape(developer, target(Provider.OPENAI), translated=False) is developer


def test_a_native_request_loses_what_its_api_would_refuse_and_nothing_else() -> None:
    """Unsigned thoughts and foreign ids of another model's turns; what Anthropic has signed stays the same object."""
    signed = {"type": "thinking", "thinking": "t", "signature": "sig"}
    call = {"type": "tool_use", "id": "functions.w:0", "name": "w", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "functions.w:0", "content": "r"}
    said = {
        "messages": [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}, call]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": [signed]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "only"}]},
        ]
    }
    shaped = shape_native(said, target(Provider.ANTHROPIC))["messages"]
    assert [len(message["content"]) for message in shaped] == [1, 1, 1]
    assert shaped[0]["content"][0]["id"] == shaped[1]["content"][0]["tool_use_id"] == fitting_id("functions.w:0")
    assert shaped[2] is said["messages"][2]
    assert shape_native(said, target(Provider.OPENAI)) is said


def test_ids_fit_and_pairs_stay_pairs() -> None:
    """What fits stays; an id that is used again is another one, for its call and for its result."""
    ids = PairedIds()
    assert [ids.of_call("call_1"), ids.of_result("call_1")] == ["call_1", "call_1"]
    assert [ids.of_call("call_1"), ids.of_result("call_1")] == ["call_1_2", "call_1_2"]
    fit = ids.of_call("functions.w:0")
    assert fit == ids.of_result("functions.w:0")
    assert fit.replace("_", "").isalnum()
    assert len(ids.of_call("x" * 500)) <= 64
    assert ids.of_call("call_1_2") not in ("call_1", "call_1_2")
    assert ids.of_result("never called") == fitting_id("never called")


def test_what_another_model_made_does_not_reach_an_api_that_refuses_it() -> None:
    """Native requests too: ids are made to fit, in a call and its result, and opaque texts of ours stay here."""
    signature = signature_of({"extra_content": {"google": {"thought_signature": "S"}}})
    call = {"type": "function_call", "call_id": "functions.w:0", "name": "w", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "functions.w:0", "output": "r"}
    ours = {"type": "reasoning", "summary": [], "encrypted_content": signature}
    theirs = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    shaped = shape_native({"model": "m", "input": [ours, theirs, call, result]}, target(Provider.OPENAI))["input"]
    fit = fitting_id("functions.w:0")
    assert shaped == [theirs, {**call, "call_id": fit}, {**result, "call_id": fit}]
    said = {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": signature}, _used("a")]}
    turns = shape_native({"messages": [said]}, target(Provider.ANTHROPIC))["messages"]
    assert turns[0]["content"] == [_used("a")]


@pytest.mark.parametrize(
    ("thoughts", "stay"),
    [
        ({"id": "rs_cs1f_0", "content": [{"type": "reasoning_text", "text": "Hm."}]}, False),
        ({"id": "rs_0_0"}, False),
        ({"id": "rs_3f2c-11"}, False),
        ({"id": "thought"}, False),
        ({"id": None, "encrypted_content": None}, False),
        ({"id": []}, False),
        ({}, False),
        ({"id": "rs_67ccf18f64008190a39b619f4c8455ef087bb177ab789d5c", "encrypted_content": "capstan1.e30="}, False),
        ({"id": "rs_67ccf18f64008190a39b619f4c8455ef087bb177ab789d5c"}, True),
        ({"encrypted_content": "gAAAA"}, True),
        ({"id": "rs_cs1f_0", "encrypted_content": "gAAAA"}, True),
    ],
)
def test_openai_is_sent_no_thoughts_of_other_models(thoughts: dict[str, Any], stay: bool) -> None:
    """It refuses the whole conversation for one; what it may have thought itself stays as it came."""
    item, said = {"type": "reasoning", "summary": [], **thoughts}, {"role": "user", "content": "u"}
    document = {"model": "m", "input": [item, said]}
    shaped = shape_native(document, target(Provider.OPENAI))
    assert shaped["input"] == ([item, said] if stay else [said])
    assert (shaped is document) is stay


def test_a_signature_is_read_only_as_it_was_written() -> None:
    """What clients have changed, or others have made, is none."""
    found = {"extra_content": {"google": {"thought_signature": "S"}}}
    made = signature_of(found)
    assert is_ours(made)
    assert read_signature(made) == found
    assert [signature_of(call) for call in ({}, {"extra_content": {}}, {"extra_content": 7})] == ["", "", ""]
    assert not any(is_ours(other) for other in ("", "gAAAA", None, 7))
    assert [read_signature(f"capstan1.{text}") for text in ("%", "NzY=", made[9:-4], "")] == [{}, {}, {}, {}]


def _used(call_id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": "w", "input": {}}


def _turns(*turns: str | tuple[str, str]) -> list[dict[str, Any]]:
    """A conversation: an id alone is a call of `w` with it, a pair is its result, "" is the user's turn."""
    said: list[dict[str, Any]] = []
    for turn in turns:
        if isinstance(turn, tuple):
            said.append({"role": "tool", "tool_call_id": turn[0], "content": turn[1]})
        elif turn:
            call = {"id": turn, "type": "function", "function": {"name": "w", "arguments": "{}"}}
            said.append({"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            said.append({"role": "user", "content": "go on"})
    return said


def test_a_result_behind_an_interrupted_call_goes_to_the_call_that_it_answers() -> None:
    """An engine that numbers calls anew in each turn: the call without a result does not take that of the next."""
    said = _turns("", "c0", "", "c0", ("c0", "R"), "")
    turns = to_messages_request({"messages": said}, model="m")["messages"]
    blocks = [block for turn in turns for block in turn["content"] if block["type"] in ("tool_use", "tool_result")]
    assert [block.get("id") or (block["tool_use_id"], block["content"][0]) for block in blocks] == [
        "c0", ("c0", "["), "c0_2", ("c0_2", {"type": "text", "text": "R"}),
    ]  # fmt: skip
    native = {
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c0", "name": "w", "input": {}}]},
            {"role": "user", "content": "stop, again"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c0", "name": "w", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c0", "content": "R"}]},
        ]
    }
    shaped = shape_native(native, target(Provider.ANTHROPIC))["messages"]
    assert shaped[2]["content"][0]["id"] == shaped[3]["content"][0]["tool_use_id"] == "c0_2"
    assert shaped[0] is native["messages"][0]


@pytest.mark.compatibility(
    table="requests",
    row="Ids of calls that another model made",
    sends="agents that change the model",
    source="https://github.com/anomalyco/opencode/issues/1680, https://github.com/decolua/9router/issues/393,"
    " https://github.com/MoonshotAI/kimi-code/pull/2503",
    does="made to fit what the model takes (`toolIds`), alike in a call and its result",
)
@pytest.mark.parametrize(
    ("form", "fits", "like"),
    [
        (ToolIds.OPENAI, "call_1", r"[A-Za-z0-9_-]{1,40}"),
        (ToolIds.MISTRAL, "Ab3dE6gH9", r"[A-Za-z0-9]{9}"),
        (ToolIds.KIMI, "functions.w:0", r"functions\.w:[0-9]+"),
    ],
)
def test_ids_take_the_form_that_a_model_asks_for(form: ToolIds, fits: str, like: str) -> None:
    """What fits is the same object; what does not is like it, each call another one, and each result with its call."""
    wanted = target(compatibility=Compatibility(toolIds=form))
    fitting = {"model": "m", "messages": _turns("", fits, (fits, "R"), "")}
    assert shape(fitting, wanted, translated=False) is fitting
    ids = ["functions.w:0/é", "x" * 500, "x" * 500, "functions.w:0/é", "toolu_" + "y" * 50]
    said = _turns(*(turn for call_id in ids for turn in (call_id, (call_id, "R"))))
    shaped = shape({"model": "m", "messages": said}, wanted, translated=False)["messages"]
    calls = [message["tool_calls"][0]["id"] for message in shaped[::2]]
    assert calls == [message["tool_call_id"] for message in shaped[1::2]]
    assert len(set(calls)) == len(calls)
    assert all(re.fullmatch(like, call_id) for call_id in calls)
    again = shape({"model": "m", "messages": said[:4]}, wanted, translated=False)["messages"]
    assert again == shaped[:4], "what is known already stays, so that prefix caches hold"
    assert shape({"model": "m", "messages": said}, target(), translated=False)["messages"] is said


PNG, JPEG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB", "/9j/4AAQSkZJRgABAQAAAQABAAD="


@pytest.mark.parametrize(
    ("url", "fit"),
    [
        (f"data:image/jpg;base64,{JPEG}", f"data:image/jpeg;base64,{JPEG}"),
        (f"data:image/png;charset=utf-8;base64,{PNG}", f"data:image/png;base64,{PNG}"),
        (f"data:image/png;base64,{JPEG}", f"data:image/jpeg;base64,{JPEG}"),
        (PNG, f"data:image/png;base64,{PNG}"),
        ("https://example.com/a.png", "https://example.com/a.png"),
        ("data:image/png,raw", "data:image/png,raw"),
        ("data:image/png;base64,QUJD", "data:image/png;base64,QUJD"),
        (f"data:image/png;base64,{PNG[:8]}\r\n{PNG[8:]}\n", f"data:image/png;base64,{PNG}"),
        (f"data:image/jpeg;base64,{JPEG.replace('/', '_')}", f"data:image/jpeg;base64,{JPEG}"),
        ("data:image/png;base64,-_-_QQ", "data:image/png;base64,+/+/QQ=="),
        ("data:image/png;base64,QQQQQ", "data:image/png;base64,QQQQQ"),
        ("data:image/png;base64,QQ%3D%3D", "data:image/png;base64,QQ=="),
        (JPEG.replace("/", "_"), f"data:image/jpeg;base64,{JPEG}"),
    ],
)
def test_media_are_named_as_what_they_are(url: str, fit: str) -> None:
    """Anthropic refuses image/jpg, parameters, a type that the first bytes contradict, and other forms of base64."""
    assert fitting_url(url) == fit
    assert fitting_url(fit) is fit


JPG = f"data:image/jpg;charset=x;base64,{JPEG.replace('/', '_')}"
FIT = f"data:image/jpeg;base64,{JPEG}"


@pytest.mark.compatibility(
    table="requests",
    row="`image/jpg`, parameters, base64 in lines or for URLs",
    does="made to fit, by the first bytes",
    sends="clients",
    source="https://github.com/NousResearch/hermes-agent/issues/55432",
)
@pytest.mark.parametrize("translated", [True, False])
@pytest.mark.parametrize("provider", [None, Provider.OPENAI, Provider.OPENAI_COMPATIBLE])
def test_media_fit_in_every_chat(provider: Provider | None, translated: bool) -> None:
    """Whoever asks, and whoever answers: vLLM takes no parameters in a data URL, and strict APIs no bare string."""
    parts = [
        {"type": "image_url", "image_url": {"url": JPG, "detail": "low"}},
        {"type": "image_url", "image_url": JPG},
        {"type": "file", "file": {"filename": "a", "file_data": JPG}},
    ]
    said = {"messages": [{"role": "user", "content": parts}]}
    (message,) = shape(said, target(provider), translated=translated)["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": FIT, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": FIT}},
        {"type": "file", "file": {"filename": "a", "file_data": FIT}},
    ]
    fit = {"messages": [message]}
    assert shape(fit, target(provider), translated=translated)["messages"] is fit["messages"]


def test_a_file_of_text_is_a_text_to_anthropic() -> None:
    """It takes PDF alone in base64; what is no text is refused with its path."""
    part = {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;charset=utf-8;base64,SMOkCg=="}}
    said = {"messages": [{"role": "user", "content": [part]}]}
    (message,) = to_messages_request(said, model="claude")["messages"]
    assert message["content"] == [
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "H\u00e4\n"},
            "title": "a.txt",
        }
    ]
    part["file"] = {"file_data": "data:text/csv;base64,/w=="}
    with pytest.raises(InvalidRequest) as told:
        to_messages_request(said, model="claude")
    assert told.value.param == "messages.0.content.0.file.file_data"


def test_media_fit_where_a_dialect_is_native() -> None:
    """A picture of a messages request to Anthropic, one in the result of a tool, and those of a response's input."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": JPEG.replace("/", "_")}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [image]}
    (message,) = shape_native({"messages": [{"role": "user", "content": [image, result]}]}, target(Provider.ANTHROPIC))[
        "messages"
    ]
    source = {"type": "base64", "media_type": "image/jpeg", "data": JPEG}
    assert message["content"][0]["source"] == message["content"][1]["content"][0]["source"] == source
    shown = {"type": "input_image", "image_url": JPG}
    given = {"input": [{"role": "user", "content": [shown]}, {"type": "function_call_output", "output": [shown]}]}
    items = shape_native(given, target(Provider.OPENAI))["input"]
    assert items[0]["content"] == items[1]["output"] == [{"type": "input_image", "image_url": FIT}]


def test_what_is_no_media_stays_what_it_is() -> None:
    """Nothing is guessed of data that begins like nothing known, and nothing raises."""
    assert split_data_url("hello") is None
    assert split_data_url("") is None
    assert fitting_file("IMAGE/JPG; q=1", "????") == ("image/jpeg", "????")


def test_a_conversation_of_another_model_is_one_that_anthropic_takes() -> None:
    """Ids fit in pairs, results stand first, interrupted calls have one, and no turn is empty."""
    calls = [
        {"id": f"functions.w:{n}", "function": {"name": "w", "arguments": given}} for n, given in enumerate(("", "{"))
    ]
    request = to_messages_request(
        {
            "messages": [
                {"role": "user", "content": ""},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "user", "content": "wait"},
                {"role": "tool", "tool_call_id": "functions.w:0", "content": "r"},
            ]
        },
        model="claude",
    )
    first, asked, answered = request["messages"]
    assert first["content"] == [{"type": "text", "text": "(no content)"}]
    assert [block["input"] for block in asked["content"]] == [{}, {"arguments": "{"}]
    ids = [block["id"] for block in asked["content"]]
    assert [block.get("tool_use_id") for block in answered["content"]] == [*ids, None]
    assert answered["content"][1]["is_error"] is True
    left = {"role": "assistant", "content": None, "tool_calls": calls[:1]}
    last = to_messages_request({"messages": [U1, left]}, model="claude")["messages"][-1]
    assert (last["role"], [block["is_error"] for block in last["content"]]) == ("user", [True])
    only_system = to_messages_request({"messages": [{"role": "system", "content": "S"}]}, model="claude")
    assert only_system["messages"] == [first]
