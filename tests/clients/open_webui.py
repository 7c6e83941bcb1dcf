"""The calls that Open WebUI makes of an OpenAI-compatible server, as its backend sends them.

The program itself brings a database, a vector store and PyTorch along, so its requests are written down here, with the
HTTP client that it uses: `routers/openai.py`, `routers/tasks.py` and `utils/middleware.py` of the version that
tests/clients/written.txt names.
"""

import base64
import json
from typing import Any

import aiohttp
import scenarios

HEADERS = {
    "Content-Type": "application/json", "Authorization": f"Bearer {scenarios.KEY}",
    "X-OpenWebUI-User-Name": "Ada", "X-OpenWebUI-User-Id": "1", "X-OpenWebUI-User-Email": "ada@example.com",
    "X-OpenWebUI-User-Role": "user", "X-OpenWebUI-Chat-Id": "2",
}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": ""}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Give the weather of a city.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}


class Refused(Exception):
    """An answer with an error's status."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status_code = status


async def call(method: str, path: str, payload: Any = None) -> Any:
    """Send one request; give the document, or the events of a stream."""
    data = None if payload is None else json.dumps(payload)
    async with (
        aiohttp.ClientSession(trust_env=True) as session,
        session.request(method, f"{scenarios.V1}{path}", data=data, headers=HEADERS) as reply,
    ):
        if reply.status >= 400:
            raise Refused(reply.status, (await reply.json())["error"]["message"])
        if "text/event-stream" not in reply.headers["Content-Type"]:
            return await reply.json()
        events = [line[6:].strip() async for line in reply.content if line.startswith(b"data: ")]
    assert events.pop() == b"[DONE]"
    return [json.loads(event) for event in events]


def text_of(events: Any) -> str:
    """Give the text of a chat stream."""
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])


def of_chat() -> scenarios.Scenarios:
    """Give a connection's calls in its default form, chat completions."""

    def payload(prompt: Any, **more: Any) -> dict[str, Any]:
        """Give what a turn in the browser becomes."""
        system = {"role": "system", "content": "Be brief."}
        usage = {"stream_options": {"include_usage": True}}
        return {
            "stream": True,
            "model": scenarios.MODEL,
            "messages": [system, {"role": "user", "content": prompt}],
            **usage,
            **more,
        }

    async def ask(prompt: Any, **more: Any) -> Any:
        return await call("POST", "/chat/completions", payload(prompt, **more))

    async def chat(prompt: str) -> Any:
        """List the models, and have a chat's title made."""
        models = [model["id"] for model in (await call("GET", "/models"))["data"]]
        assert scenarios.MODEL in models
        title = {
            "model": scenarios.MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "stream": False,
            "max_tokens": 1000,
        }
        return {"text": (await call("POST", "/chat/completions", title))["choices"][0]["message"]["content"]}

    async def stream(prompt: str) -> Any:
        deltas = [event["choices"][0]["delta"] for event in await ask(prompt) if event["choices"]]
        return {"pieces": [delta["content"] for delta in deltas if delta.get("content")]}

    async def tools(prompt: str) -> Any:
        """Put the pieces of calls together by their index, as its middleware does, and go on behind the results."""
        made: dict[int, dict[str, Any]] = {}
        events = await ask(prompt, tools=[TOOL])
        for event in events:
            for piece in event["choices"][0]["delta"].get("tool_calls") or [] if event["choices"] else []:
                if piece["index"] not in made:
                    made[piece["index"]] = piece
                else:
                    made[piece["index"]]["function"]["arguments"] += piece["function"].get("arguments") or ""
        pairs = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in made.values()]
        turns = payload(prompt, tools=[TOOL])
        turns["messages"] += [
            {"role": "assistant", "content": text_of(events), "tool_calls": list(made.values())},
            *(
                {"role": "tool", "tool_call_id": one["id"], "content": scenarios.WEATHER[given["city"]]}
                for one, (_, given) in zip(made.values(), pairs, strict=True)
            ),
        ]
        return {"calls": scenarios.calls(*pairs), "text": text_of(await call("POST", "/chat/completions", turns))}

    async def images(prompt: str) -> Any:
        data = base64.b64encode(scenarios.PICTURE.read_bytes()).decode()
        shown = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        events = await ask([{"type": "text", "text": prompt}, shown])
        return {"text": text_of(events)}

    async def counting(prompt: str) -> Any:
        usage = (await ask(prompt))[-1]["usage"]
        title = payload(prompt, stream=False)
        title.pop("stream_options")
        whole = (await call("POST", "/chat/completions", title))["usage"]
        return scenarios.counted(*([one["prompt_tokens"], one["completion_tokens"]] for one in (whole, usage)))

    return {
        "chat": chat, "stream": stream, "tools": tools, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt), "counting": counting,
    }  # fmt: skip


def of_responses() -> scenarios.Scenarios:
    """Give a connection's calls with `api_type` responses."""

    def payload(prompt: Any, **more: Any) -> dict[str, Any]:
        parts = prompt if isinstance(prompt, list) else [{"type": "input_text", "text": prompt}]
        items = [{"type": "message", "role": "user", "content": parts}]
        return {"stream": True, "model": scenarios.MODEL, "input": items, "instructions": "Be brief.", **more}

    async def ask(prompt: Any, **more: Any) -> Any:
        return await call("POST", "/responses", payload(prompt, **more))

    async def stream(prompt: str) -> Any:
        events = await ask(prompt)
        assert events[-1]["type"] == "response.completed"
        return {"pieces": [event["delta"] for event in events if event["type"] == "response.output_text.delta"]}

    async def chat(prompt: str) -> Any:
        response = await ask(prompt, stream=False, max_output_tokens=1000)
        return {"text": response["output"][0]["content"][0]["text"]}

    async def tools(prompt: str) -> Any:
        tool = {"type": "function", **FUNCTION, "strict": False}
        thought, said, *output = (await ask(prompt, tools=[tool]))[-1]["response"]["output"]
        pairs = [(item["name"], json.loads(item["arguments"])) for item in output]
        turns = payload(prompt, tools=[tool])
        turns["input"].append({key: thought[key] for key in ("type", "id", "summary", "content")})
        turns["input"].append({key: said[key] for key in ("type", "role", "content")})
        turns["input"] += [{key: item[key] for key in ("type", "call_id", "name", "arguments")} for item in output]
        turns["input"] += [
            {"type": "function_call_output", "call_id": item["call_id"], "output": scenarios.WEATHER[given["city"]]}
            for item, (_, given) in zip(output, pairs, strict=True)
        ]
        last = (await call("POST", "/responses", turns))[-1]["response"]["output"]
        return {"calls": scenarios.calls(*pairs), "text": last[0]["content"][0]["text"]}

    async def images(prompt: str) -> Any:
        data = base64.b64encode(scenarios.PICTURE.read_bytes()).decode()
        shown = {"type": "input_image", "image_url": f"data:image/png;base64,{data}", "detail": "auto"}
        events = await ask([{"type": "input_text", "text": prompt}, shown])
        return {"text": events[-1]["response"]["output"][0]["content"][0]["text"]}

    async def counting(prompt: str) -> Any:
        usages = ((await ask(prompt, stream=False))["usage"], (await ask(prompt))[-1]["response"]["usage"])
        return scenarios.counted(*([usage["input_tokens"], usage["output_tokens"]] for usage in usages))

    return {
        "chat": chat, "stream": stream, "tools": tools, "images": images,
        "errors": lambda prompt: scenarios.failures(ask, prompt), "counting": counting,
    }  # fmt: skip


if __name__ == "__main__":
    scenarios.run({"Open WebUI's calls": of_chat(), "Open WebUI's calls, Responses": of_responses()})
