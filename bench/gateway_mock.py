"""An instant upstream: answers every POST at once with one completion, or with a stream of 64 chunks.

    python bench/gateway_mock.py PORT

As little as an OpenAI-compatible server can do: one asyncio protocol on uvloop, no parsing beyond the end of the
request, one write per answer (64 events in 64 HTTP chunks, which arrive together). It is the same for every gateway.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

MODEL: Final = "bench"
CHUNKS: Final = 64


def _json_answer() -> bytes:
    body = (
        b'{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"bench","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"The quick brown fox jumps over the lazy dog."},'
        b'"finish_reason":"stop","logprobs":null}],"usage":{"prompt_tokens":12,"completion_tokens":10,'
        b'"total_tokens":22}}'
    )
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _frame(data: bytes) -> bytes:
    line = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


def _stream_answer() -> bytes:
    head = b'{"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":'
    delta = head + b'[{"index":0,"delta":{"content":"token%d "},"finish_reason":null}]}'
    frames = [_frame(delta % number) for number in range(CHUNKS - 1)]
    frames.append(_frame(head + b'[{"index":0,"delta":{},"finish_reason":"stop"}]}'))
    usage = b'[],"usage":{"prompt_tokens":12,"completion_tokens":64,"total_tokens":76}}'
    frames.append(_frame(head + usage))
    frames.append(_frame(b"[DONE]") + b"0\r\n\r\n")
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
    return start + b"".join(frames)


JSON_ANSWER: Final = _json_answer()
STREAM_ANSWER: Final = _stream_answer()
MODELS_BODY: Final = b'{"object":"list","data":[{"id":"bench","object":"model","created":0,"owned_by":"bench"}]}'
MODELS_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(MODELS_BODY),
    MODELS_BODY,
)


class Mock(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            self.transport.write(MODELS_ANSWER)
        elif b'"stream":true' in body or b'"stream": true' in body:
            self.transport.write(STREAM_ANSWER)
        else:
            self.transport.write(JSON_ANSWER)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Mock, "127.0.0.1", port, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
