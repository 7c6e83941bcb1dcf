"""An engine that answers agents by a script: text, calls of the agent's tools, and what engines do when they fail."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """A whole answer of text."""

    text: str


@dataclass(frozen=True)
class Call:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Use:
    """An answer that calls tools, behind some words where there are any."""

    calls: tuple[Call, ...]
    text: str = ""
    thought: str = ""


@dataclass(frozen=True)
class Cut:
    """A stream whose connection is lost behind its first words."""


@dataclass(frozen=True)
class Refuse:
    """An error in vLLM's words."""

    status: int
    message: str
    kind: str = "BadRequestError"


Step = Say | Use | Cut | Refuse

TOO_MANY = Refuse(429, "The engine is busy, try again.", "RateLimitError")
TOO_LONG = Refuse(
    400,
    "This model's maximum context length is 32768 tokens. However, your request has 40000 input tokens. Please reduce "
    "the length of the input messages.",
)
BESIDE = "Agreed, as 1729 says"
CUT_WORDS = "These are the first words of"


@dataclass
class AgentEngine:
    """Follows its script, a step for each request of the agent's main loop, and remembers what it was asked."""

    url: str = ""
    main: Callable[[Mapping[str, Any]], bool] = lambda _: True
    """Whether a request is of the main loop; what is not (titles, summaries) gets the words of `BESIDE`."""
    steps: list[Step] = field(default_factory=list)
    last: Step = field(default_factory=lambda: Say("Nothing is left to do."))
    """What is answered when the script is at its end."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of the main loop's requests."""
    beside: list[dict[str, Any]] = field(default_factory=list)
    """The bodies of all other requests."""
    answers: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, *steps: Step, last: Step | None = None) -> None:
        """Begin another script."""
        with self._lock:
            self.steps, self.asked, self.beside = list(steps), [], []
            if last is not None:
                self.last = last

    def next_step(self, body: dict[str, Any]) -> tuple[int, Step]:
        """Give the number of this answer, unlike all others, and what it is."""
        with self._lock:
            self.answers += 1
            if not self.main(body):
                self.beside.append(body)
                return self.answers, Say(BESIDE)
            self.asked.append(body)
            return self.answers, self.steps.pop(0) if self.steps else self.last


def tools_of(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give the functions that a chat request offers, by name."""
    return {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or () if "function" in tool}


def results_of(body: dict[str, Any]) -> str:
    """Give the text of all tool results of a chat request."""
    return json.dumps([message.get("content") for message in body["messages"] if message["role"] == "tool"])


def pictures_of(body: dict[str, Any]) -> list[str]:
    """Give the URLs of the pictures in a chat request."""
    parts = [
        part for message in body["messages"] if isinstance(message.get("content"), list) for part in message["content"]
    ]
    return [part["image_url"]["url"] for part in parts if part.get("type") == "image_url"]


def chunks(number: int, model: str, step: Say | Use) -> Iterator[dict[str, Any]]:
    """Give the chunks of a streamed answer."""
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    if isinstance(step, Say):
        for word in step.text.split(" "):
            yield chunk({"content": word + " "})
        yield chunk({}, "stop")
    else:
        if step.thought:
            yield chunk({"reasoning_content": step.thought})
        if step.text:
            yield chunk({"content": step.text})
        for index, call in enumerate(step.calls):
            yield chunk({"tool_calls": [{**_call(number, index, call, ""), "index": index}]})
            text = json.dumps(call.arguments)
            for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
                yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield chunk({}, "tool_calls")
    yield {**head, "choices": [], "usage": USAGE}


USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def _call(number: int, index: int, call: Call, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"call_{number}_{index}", "type": "function", "function": function}


def whole(number: int, model: str, step: Say | Use) -> dict[str, Any]:
    """Give the same answer as one document."""
    message: dict[str, Any] = {"role": "assistant", "content": step.text or None}
    if isinstance(step, Use):
        message |= {"reasoning_content": step.thought} if step.thought else {}
        message["tool_calls"] = [
            _call(number, index, call, json.dumps(call.arguments)) for index, call in enumerate(step.calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if isinstance(step, Use) else "stop"}
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_700_000_000, "model": model}
    return {**head, "choices": [choice], "usage": USAGE}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: AgentEngine

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer probes."""
        self._document(200, {"object": "list", "data": []})

    def do_POST(self) -> None:
        """Answer by the script."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.path.endswith("/chat/completions"):
            self._document(404, {"detail": "Not Found"})
            return
        number, step = self.engine.next_step(body)
        if isinstance(step, Refuse):
            error = {"message": step.message, "type": step.kind, "param": None, "code": step.status}
            self._document(step.status, {"error": error}, ("retry-after", "1"))
        elif not body.get("stream"):
            if isinstance(step, Cut):
                self.close_connection = True
                return
            self._document(200, whole(number, body["model"], step))
        else:
            self._stream(number, body["model"], step)

    def _document(self, status: int, document: object, *headers: tuple[str, str]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, number: int, model: str, step: Say | Use | Cut) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        cut = isinstance(step, Cut)
        for chunk in chunks(number, model, Say(CUT_WORDS) if isinstance(step, Cut) else step):
            if cut and not (chunk["choices"] and chunk["choices"][0]["finish_reason"] is None):
                break
            self._frame(json.dumps(chunk))
        if cut:
            self.close_connection = True
            return
        self._frame("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _frame(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()


@contextmanager
def agent_engine(engine: AgentEngine | None = None) -> Iterator[AgentEngine]:
    """Run an engine, one with a script unless another is given, on a port of its own until the block ends."""
    engine = engine or AgentEngine()
    handler = type("Handler", (_Handler,), {"engine": engine})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    engine.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
