"""A server of the OpenAI API with one judge, which follows a script."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Says = Callable[[list[str]], str]
"""Given the texts that the judge is shown, in their order: the verdict."""


def shown(document: dict[str, Any]) -> list[str]:
    """The texts that a judge is shown, in their order."""
    return [json.loads(line) for line in document["messages"][1]["content"].split("\n") if line.startswith('"')]


@contextmanager
def judge_server(says: Says, *, status: int = 200, seen: list[dict[str, Any]] | None = None) -> Iterator[str]:
    """Serve, and give the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if seen is not None:
                seen.append({**document, "authorization": self.headers.get("authorization")})
            content = json.dumps({"reason": "so it is", "verdict": says(shown(document))})
            choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
            answer: dict[str, Any] = {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}
            if status != 200:
                answer = {"error": {"message": "no", "code": "invalid_api_key"}}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
