"""The documents that go over the wire for chats and completions, in vLLM's shapes."""

from collections.abc import Sequence
from typing import Any

from capstan_worker.simulator.answers import Answer, alternatives, logprob
from capstan_worker.simulator.requests import Generation

FINGERPRINT = "capstan-simulator"
Document = dict[str, Any]


class Shapes:
    """Makes the documents of one answer."""

    def __init__(self, request: Generation, *, number: str, created: int, cached_tokens: int) -> None:
        self.request = request
        self._prompt_tokens = sum(len(prompt) for prompt in request.prompts)
        self._cached_tokens = cached_tokens
        self._tool_ids = [f"chatcmpl-tool-{seed:016x}" for seed in request.seeds]
        kind = "chat.completion" if request.chat else "text_completion"
        self._id = ("chatcmpl-" if request.chat else "cmpl-") + number
        self._head = {"id": self._id, "created": created, "model": request.model, "system_fingerprint": FINGERPRINT}
        self._whole_kind = kind
        self._chunk_kind = kind + ".chunk" if request.chat else kind

    def usage(self, completion_tokens: int) -> Document:
        """Give the usage; cached tokens are those that the prefix cache had."""
        return {
            "prompt_tokens": self._prompt_tokens,
            "total_tokens": self._prompt_tokens + completion_tokens,
            "completion_tokens": completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self._cached_tokens},
        }

    def whole(self, answers: Sequence[Answer]) -> Document:
        """Give the whole answer."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        total = sum(len(answer.tokens) for answer in answers)
        return {**self._head, "object": self._whole_kind, "choices": choices, "usage": self.usage(total)}

    def chunk(self, choices: list[Document], usage: Document | None) -> Document:
        """Give one event of a stream."""
        document = {**self._head, "object": self._chunk_kind, "choices": choices}
        if usage is not None:
            document["usage"] = usage
        return document

    def opening(self, index: int) -> Document:
        """Give the first piece of a chat choice: the role."""
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, answer: Answer, start: int, end: int) -> Document:
        """Give the tokens from `start` to `end` of one choice; the last piece has the finish reason."""
        text = "".join(answer.tokens[start:end])
        last = end >= len(answer.tokens)
        reason = self._finish_reason(answer) if last else None
        choice: Document = {"index": index, "logprobs": self._logprobs(index, answer, start, end)}
        if not self.request.chat:
            choice["text"] = self._echo(index) + text if start == 0 else text
        elif self.request.tool is None:
            choice["delta"] = {"content": text}
        else:
            choice["delta"] = {"tool_calls": [self._tool_delta(index, text, first=start == 0)]}
        choice["finish_reason"] = reason
        if last:
            choice["stop_reason"] = answer.stop_reason
        return choice

    def _choice(self, index: int, answer: Answer) -> Document:
        choice: Document = {"index": index, "logprobs": self._logprobs(index, answer, 0, len(answer.tokens))}
        if not self.request.chat:
            choice["text"] = self._echo(index) + answer.text
        elif self.request.tool is None:
            choice["message"] = {"role": "assistant", "content": answer.text, "tool_calls": []}
        else:
            call = {
                "id": self._tool_ids[index],
                "type": "function",
                "function": {"name": self.request.tool, "arguments": answer.text},
            }
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice["finish_reason"] = self._finish_reason(answer)
        choice["stop_reason"] = answer.stop_reason
        return choice

    def _tool_delta(self, index: int, text: str, *, first: bool) -> Document:
        if not first:
            return {"index": 0, "function": {"arguments": text}}
        function = {"name": self.request.tool, "arguments": text}
        return {"index": 0, "id": self._tool_ids[index], "type": "function", "function": function}

    def _finish_reason(self, answer: Answer) -> str:
        called = self.request.tool is not None and answer.finish_reason == "stop"
        return "tool_calls" if called else answer.finish_reason

    def _echo(self, index: int) -> str:
        return "".join(self.request.prompts[index // self.request.n]) if self.request.echo else ""

    def _logprobs(self, index: int, answer: Answer, start: int, end: int) -> Document | None:
        if self.request.logprobs is None:
            return None
        seed = self.request.seeds[index]
        places = range(start, min(end, len(answer.tokens)))
        if self.request.chat:
            return {"content": [self._place(seed, place, answer.tokens[place]) for place in places]}
        offsets = [sum(len(token) for token in answer.tokens[:place]) for place in places]
        return {
            "text_offset": offsets,
            "token_logprobs": [logprob(seed, place, 0) for place in places],
            "tokens": [answer.tokens[place] for place in places],
            "top_logprobs": [self._top(seed, place, answer.tokens[place]) for place in places],
        }

    def _place(self, seed: int, place: int, token: str) -> Document:
        others = alternatives(seed, place, token, self.request.logprobs or 0)
        top = [_entry(other, logprob(seed, place, rank)) for rank, other in enumerate(others)]
        return {**_entry(token, logprob(seed, place, 0)), "top_logprobs": top}

    def _top(self, seed: int, place: int, token: str) -> Document:
        others = alternatives(seed, place, token, self.request.logprobs or 1)
        return {other: logprob(seed, place, rank) for rank, other in enumerate(others)}


def _entry(token: str, value: float) -> Document:
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "surrogatepass"))}
