"""The most output that a request can have."""

from typing import Any

import orjson
import pytest

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.inference.routes import ROUTES
from capstan_gateway.pipeline.bounds import answers_of
from capstan_gateway.pipeline.estimates import asked_output
from capstan_gateway.pipeline.limits.streams import first_of, is_metered
from capstan_gateway.pipeline.parse import parse, parse_form, translate
from capstan_gateway.pipeline.request import Request

CHAT, TEXT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"
HEARD = "/v1/audio/transcriptions"
ASKED = {"messages": [{"role": "user", "content": "hi"}]}
FIELDS: dict[str, dict[str, Any]] = {CHAT: ASKED, TEXT: {"prompt": "hi"}, MESSAGES: ASKED, RESPONSES: {"input": "hi"}}
SOUND = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--'
MANY = 100_000
SLICE = 256


def request(path: str, **said: Any) -> Request:
    """Give a stream that a client asks for."""
    route = next(one for one in ROUTES if one.path == path)
    if route.form:
        parts = {"model": "m", "stream": "true", **said}
        texts = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{parts[name]}\r\n' for name in parts
        )
        return parse_form(route, b"b", texts.encode() + SOUND)
    body = orjson.dumps({"model": "m", "stream": True, **FIELDS[path], **said})
    return parse(route, body) if route.dialect is None else translate(route, route.dialect, body, [])


@pytest.mark.parametrize(
    ("path", "said", "tokens"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 7}, 7),
        (CHAT, {"max_tokens": 7.0}, 7),
        (CHAT, {"max_tokens": 7, "n": 3}, 21),
        (CHAT, {"max_tokens": 7, "n": 3.0}, 21),
        (CHAT, {"max_tokens": 7, "n": None}, 7),
        (CHAT, {"max_tokens": 7, "n": -1}, 7),
        (CHAT, {"max_tokens": 7, "n": MANY}, 7 * MANY),
        (CHAT, {"max_tokens": 7, "best_of": 4, "n": 2}, 28),
        (CHAT, {"max_completion_tokens": 1, "max_tokens": MANY}, MANY),
        (CHAT, {"max_completion_tokens": MANY, "max_tokens": 1}, MANY),
        (CHAT, {"max_tokens": 0}, None),
        (CHAT, {"max_tokens": -1}, None),
        (CHAT, {"max_tokens": -1, "max_completion_tokens": 1}, None),
        (CHAT, {"max_tokens": 7, "n_predict": -1}, None),
        (CHAT, {"n": 3}, None),
        (TEXT, {"max_tokens": MANY, "max_completion_tokens": 1}, MANY),
        (TEXT, {"max_completion_tokens": 1}, None),
        (TEXT, {"max_tokens": 5, "prompt": ["hi"] * 1000}, 5000),
        (TEXT, {"max_tokens": 5, "prompt": [[1, 2], [3]]}, 10),
        (TEXT, {"max_tokens": 5, "prompt": [1, 2, 3]}, 5),
        (TEXT, {"max_tokens": 5, "prompt": [], "n": 2}, 10),
        (TEXT, {"max_tokens": 5, "prompt": ["hi"] * 3, "prompt_embeds": ["", ""], "best_of": 2}, 50),
        (MESSAGES, {"max_tokens": MANY, "max_completion_tokens": 1}, MANY),
        (RESPONSES, {"max_output_tokens": MANY, "max_tokens": 1, "max_completion_tokens": 1}, MANY),
        (RESPONSES, {"max_output_tokens": MANY, "max_tokens": 1, "tools": [{"type": "web_search"}]}, MANY),
        (RESPONSES, {"max_tokens": 1, "max_completion_tokens": 1}, None),
        (RESPONSES, {"max_output_tokens": 7, "background": True}, 7),
        (HEARD, {"max_tokens": 1, "max_completion_tokens": 1}, None),
    ],
)
def test_the_bound_is_the_largest_that_any_engine_reads(path: str, said: dict[str, Any], tokens: int | None) -> None:
    """Of all answers to all prompts; a field that some engine passes over bounds nothing."""
    assert asked_output(request(path, **said)) == tokens


@pytest.mark.parametrize("name", ["n", "best_of", "max_tokens", "max_completion_tokens", "min_tokens"])
@pytest.mark.parametrize("value", ["", " 5", "+5", "5.0", "1_0", "1e3", "\uff15"])
def test_a_bound_in_a_form_that_is_no_number_is_refused(name: str, value: str) -> None:
    """Engines read " 5", "5.0" and "1_0" as numbers."""
    with pytest.raises(InvalidRequest, match=f"`{name}` must be a whole number"):
        request(HEARD, **{name: value})


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("value", ["128", 1.5, True, [1], {}])
@pytest.mark.parametrize("name", ["n", "best_of", "max_tokens"])
def test_a_bound_that_is_no_number_is_refused(path: str, name: str, value: object) -> None:
    """Some engines read "128" as 128: what cannot be told bounds nothing."""
    with pytest.raises(InvalidRequest, match=f"`{name}` must be a whole number") as caught:
        asked_output(request(path, **{"max_tokens": 5, name: value}))
    assert (caught.value.param, caught.value.code) == (name, "invalid_value")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (CHAT, {"max_tokens": MANY, "max_completion_tokens": 1}),
        (CHAT, {"max_tokens": 500, "n": 128.0}),
        (CHAT, {"max_tokens": 1, "n_predict": MANY}),
        (TEXT, {"max_tokens": 500, "prompt": ["hi"] * 1000}),
        (TEXT, {"max_tokens": MANY, "max_completion_tokens": 1}),
        (MESSAGES, {"max_tokens": MANY, "max_completion_tokens": 1}),
        (RESPONSES, {"max_output_tokens": MANY, "max_completion_tokens": 1}),
        (RESPONSES, {"max_tokens": 1}),
        (HEARD, {"max_tokens": 1}),
        (HEARD, {"max_completion_tokens": 1}),
    ],
)
def test_a_stream_that_may_be_long_is_counted_as_it_goes_on(path: str, said: dict[str, Any]) -> None:
    """Whatever else its request says of its length."""
    asked = request(path, **said)
    most = asked_output(asked)
    assert is_metered(asked, first_of(asked, MANY if most is None else most, SLICE))


def test_prompts_are_many_only_where_a_completion_has_them() -> None:
    """Elsewhere the field means nothing."""
    assert answers_of(request(TEXT, prompt=["a", "b"])) == 2
    assert answers_of(request(CHAT, prompt=["a", "b"])) == 1
