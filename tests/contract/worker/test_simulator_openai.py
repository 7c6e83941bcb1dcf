"""The simulator and the official OpenAI client."""

import json
import math
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from capstan_worker.simulator.vectors import similarity
from support.worker import Worker, post_json, simulator

MESSAGES = [{"role": "user", "content": "What is a capstan?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
                "required": ["city", "days"],
            },
        },
    }
]


@pytest.fixture(scope="module")
def chat_worker() -> Iterator[Worker]:
    """A chat model with a small window and a second name."""
    with simulator("--context-window", "1024", "--alias", "lora") as started:
        yield started


@pytest.fixture
def chat(chat_worker: Worker) -> Iterator[OpenAI]:
    """The official client, without retries."""
    with OpenAI(base_url=f"{chat_worker.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_an_answer_says_that_it_is_simulated(chat: OpenAI):
    """A whole answer is plainly simulated, has usage that adds up, and is the same when asked again."""
    first, second = (chat.chat.completions.create(model="sim", messages=MESSAGES) for _ in range(2))
    assert "simulated answer from sim" in first.choices[0].message.content
    assert first.system_fingerprint == "capstan-simulator"
    assert first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert first.choices == second.choices


@pytest.mark.parametrize("most", [None, 1, 20])
@pytest.mark.parametrize("n", [1, 3])
def test_a_stream_adds_up_to_the_whole_answer(chat: OpenAI, most: int | None, n: int):
    """The pieces of a stream joined are the answer that comes without a stream, with the same finish and usage."""
    options = {"model": "sim", "messages": MESSAGES, "max_tokens": most, "n": n}
    whole = chat.chat.completions.create(**options)
    texts, reasons, usage = [""] * n, [None] * n, None
    for chunk in chat.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        usage = chunk.usage
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert len(set(texts)) == n or most == 1


def test_usage_comes_only_when_asked_for(chat: OpenAI):
    """Without stream_options no chunk has usage; with continuous usage every chunk has it and it only grows."""
    plain = list(chat.chat.completions.create(model="sim", messages=MESSAGES, stream=True))
    assert all(chunk.usage is None for chunk in plain)
    options = {"include_usage": True, "continuous_usage_stats": True}
    told = list(chat.chat.completions.create(model="sim", messages=MESSAGES, stream=True, stream_options=options))
    counts = [chunk.usage.completion_tokens for chunk in told]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert told[-1].choices == []


def test_a_completion_streams_and_echoes(chat: OpenAI):
    """Completions take several prompts, echo them, and stream the same text."""
    options = {"model": "lora", "prompt": ["Once", "Twice"], "max_tokens": 12, "echo": True}
    whole = chat.completions.create(**options)
    texts = ["", ""]
    for chunk in chat.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert [choice.text for choice in whole.choices] == texts
    assert texts[0].startswith("OnceThis is a simulated answer from lora")
    assert whole.usage.completion_tokens == 24


def test_a_stop_text_ends_the_answer(chat: OpenAI):
    """The answer ends before the stop text and says which one it was."""
    answer = chat.chat.completions.create(model="sim", messages=MESSAGES, stop=["; no", "never said"])
    assert answer.choices[0].message.content == "This is a simulated answer from sim"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].stop_reason == "; no"


def test_a_demanded_tool_is_called(chat: OpenAI):
    """A forced tool gets arguments that fit its parameters, streamed or not."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    options = {"model": "sim", "messages": MESSAGES, "tools": TOOLS, "tool_choice": choice}
    whole = chat.chat.completions.create(**options).choices[0]
    call = whole.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert (call.function.name, whole.finish_reason) == ("get_weather", "tool_calls")
    assert isinstance(arguments["city"], str)
    assert 1 <= arguments["days"] <= 7
    deltas = [chunk.choices[0].delta for chunk in chat.chat.completions.create(**options, stream=True)]
    pieces = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert pieces[0].function.name == "get_weather"
    assert pieces[0].id == call.id
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments


def test_tools_are_not_called_unless_it_makes_sense(chat: OpenAI):
    """On `auto` the tool is called that the last message names; with `none` never."""
    asks = [{"role": "user", "content": "please get_weather"}]
    options = {"model": "sim", "tools": TOOLS}
    assert chat.chat.completions.create(**options, messages=asks).choices[0].finish_reason == "tool_calls"
    assert chat.chat.completions.create(**options, messages=MESSAGES).choices[0].message.content
    assert chat.chat.completions.create(**options, messages=asks, tool_choice="none").choices[0].message.content


def test_structured_output_fits_its_schema(chat: OpenAI):
    """A JSON schema gives JSON that fits."""
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}}
    answer = chat.chat.completions.create(model="sim", messages=MESSAGES, response_format=wanted)
    assert json.loads(answer.choices[0].message.content)["mood"] in ("good", "bad")


def test_logprobs_come_per_token_and_are_reproducible(chat: OpenAI):
    """Each token has a log-probability and the alternatives that were asked for, the same each time."""
    options = {"model": "sim", "messages": MESSAGES, "logprobs": True, "top_logprobs": 3, "max_tokens": 5}
    first, second = (chat.chat.completions.create(**options).choices[0] for _ in range(2))
    assert first.logprobs == second.logprobs
    assert "".join(place.token for place in first.logprobs.content) == first.message.content
    for place in first.logprobs.content:
        assert place.logprob < 0
        assert place.top_logprobs[0].token == place.token
        assert len({top.token for top in place.top_logprobs}) == 3
    text = chat.completions.create(model="sim", prompt="Once", logprobs=2, max_tokens=4).choices[0]
    assert "".join(text.logprobs.tokens) == text.text
    assert len(text.logprobs.top_logprobs) == 4


def test_the_second_turn_hits_the_prefix_cache(chat: OpenAI):
    """A conversation that goes on finds its beginning in the cache, in whole blocks, and usage says so."""
    system = {"role": "system", "content": "You know all about ships and harbors. " * 20}
    first = chat.chat.completions.create(model="sim", messages=[system, *MESSAGES], seed=5)
    turns = [system, *MESSAGES, {"role": "assistant", "content": first.choices[0].message.content}]
    second = chat.chat.completions.create(model="sim", messages=[*turns, {"role": "user", "content": "More."}], seed=5)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert first.usage.prompt_tokens < cached < second.usage.prompt_tokens
    assert cached % 16 == 0


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"model": "other", "messages": MESSAGES}, openai.NotFoundError, "The model `other` does not exist."),
        ({"messages": []}, openai.BadRequestError, "at least one message"),
        ({"messages": MESSAGES, "max_tokens": 0}, openai.BadRequestError, "max_tokens must be at least 1, got 0."),
        ({"messages": MESSAGES, "temperature": -1}, openai.BadRequestError, "temperature must be non-neg"),
        ({"messages": MESSAGES, "max_tokens": 1024}, openai.BadRequestError, "maximum context length is 1024 tokens"),
        (
            {"messages": [{"role": "user", "content": "a b " * 600}]},
            openai.BadRequestError,
            "exceeds this limit even without any output tokens",
        ),
        ({"messages": MESSAGES, "stream_options": {"include_usage": True}}, openai.BadRequestError, "stream=True"),
        ({"messages": MESSAGES, "tool_choice": "required"}, openai.BadRequestError, "`tools` must be set"),
    ],
)
def test_errors_have_vllms_shape(chat: OpenAI, body: dict, error: type[openai.APIStatusError], says: str):
    """A request that cannot be answered gets vLLM's envelope, whose code is a number."""
    with pytest.raises(error) as caught:
        chat.chat.completions.create(**{"model": "sim", **body})
    assert says in caught.value.message
    assert caught.value.body["code"] == caught.value.status_code
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_models_are_listed(chat: OpenAI):
    """The model and its further names are listed with the context window."""
    models = {model.id: model for model in chat.models.list()}
    assert set(models) == {"sim", "lora"}
    assert models["lora"].parent == "sim"
    assert models["sim"].max_model_len == 1024


def test_a_chat_model_makes_no_embeddings(chat: OpenAI):
    """The task decides which endpoints there are."""
    with pytest.raises(openai.BadRequestError, match="does not support Embeddings API"):
        chat.embeddings.create(model="sim", input="x")


def test_embeddings_are_unit_vectors_of_the_words():
    """Equal texts have equal vectors, similar ones are nearer; dimensions and both formats are honoured."""
    with simulator("--task", "embed") as started, OpenAI(base_url=f"{started.url}/v1", api_key="unused") as client:
        texts = ["return a parcel", "return a parcel", "a parcel to return", "green cheese moon"]
        # The client asks for base64 unless told otherwise.
        packed = client.embeddings.create(model="sim", input=texts)
        plain = client.embeddings.create(model="sim", input=texts, encoding_format="float")
        short = client.embeddings.create(model="sim", input=texts[0], dimensions=16)
        with pytest.raises(openai.BadRequestError, match="from 1 to 384"):
            client.embeddings.create(model="sim", input="x", dimensions=385)
    vectors = [item.embedding for item in plain.data]
    assert vectors[0] == vectors[1]
    assert [item.embedding for item in packed.data][2] == pytest.approx(vectors[2], abs=1e-6)
    assert math.hypot(*vectors[2]) == pytest.approx(1.0)
    assert similarity(vectors[0], vectors[2]) > 0.5 > similarity(vectors[0], vectors[3])
    assert len(short.data[0].embedding) == 16
    assert plain.usage.prompt_tokens == plain.usage.total_tokens > 0


def test_classes_and_scores_have_vllms_shapes():
    """Probabilities add up to one; the more similar document has the higher score and ranks first."""
    with simulator("--task", "classify", "--label", "good", "--label", "bad") as started:
        answer = post_json(f"{started.url}/classify", {"model": "sim", "input": ["x", "y"]})
    assert [item["label"] in ("good", "bad") for item in answer["data"]] == [True, True]
    assert all(math.fsum(item["probs"]) == pytest.approx(1.0) for item in answer["data"])
    texts = ["the moon is made of cheese", "the capital of France"]
    with simulator("--task", "score") as started:
        body = {"model": "sim", "text_1": "what is the capital of France", "text_2": texts}
        scores = post_json(f"{started.url}/v1/score", body)
        body = {"model": "sim", "query": "what is the capital of France", "documents": texts, "top_n": 1}
        ranked = post_json(f"{started.url}/v1/rerank", body)
    assert scores["data"][0]["score"] < scores["data"][1]["score"] <= 1
    assert [item["index"] for item in ranked["results"]] == [1]
