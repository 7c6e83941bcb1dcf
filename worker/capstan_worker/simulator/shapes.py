"""The documents that go over the wire for chats and completions, in vLLM's shapes."""

from collections.abc import Sequence
from typing import Any

from capstan_worker.simulator.answers import Answer, Kind, Part, alternatives, logprob, make_seed
from capstan_worker.simulator.requests import Generation

FINGERPRINT = "capstan-simulator"
Document = dict[str, Any]


class Shapes:
    """Makes the documents of one answer."""

    def __init__(self, request: Generation, *, number: str, created: int, cached_tokens: int) -> None:
        self.request = request
        self._prompt_tokens = sum(len(prompt) for prompt in request.prompts)
        self._cached_tokens = cached_tokens
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
        else:
            choice["delta"] = self._delta(index, answer, start, end)
        choice["finish_reason"] = reason
        if last:
            choice["stop_reason"] = answer.stop_reason
        return choice

    def _choice(self, index: int, answer: Answer) -> Document:
        choice: Document = {"index": index, "logprobs": self._logprobs(index, answer, 0, len(answer.tokens))}
        if not self.request.chat:
            choice["text"] = self._echo(index) + answer.text
        else:
            choice["message"] = self._message(index, answer)
        choice["finish_reason"] = self._finish_reason(answer)
        choice["stop_reason"] = answer.stop_reason
        return choice

    def _message(self, index: int, answer: Answer) -> Document:
        message: Document = {"role": "assistant", "content": None, "tool_calls": []}
        for number, part, text in answer.pieces(0, len(answer.tokens)):
            if part.kind is Kind.CALL:
                function = {"name": part.tool, "arguments": text}
                message["tool_calls"].append(
                    {"id": self._id_of(index, number), "type": "function", "function": function}
                )
            else:
                message |= self._field(part, text)
        if not message["tool_calls"] and not answer.tokens:
            message["content"] = ""
        return message

    def _delta(self, index: int, answer: Answer, start: int, end: int) -> Document:
        delta: Document = {}
        for number, part, text in answer.pieces(start, end):
            if part.kind is Kind.CALL:
                delta.setdefault("tool_calls", []).append(self._call_piece(index, answer, number, text, start))
            else:
                delta |= self._field(part, text)
        return delta

    def _field(self, part: Part, text: str) -> Document:
        if part.kind is Kind.REASONING:
            return dict.fromkeys(self.request.reasoning_fields, text)
        return {"refusal" if part.kind is Kind.REFUSAL else "content": text}

    def _call_piece(self, index: int, answer: Answer, number: int, text: str, start: int) -> Document:
        part = answer.parts[number]
        place = sum(other.kind is Kind.CALL for other in answer.parts[:number])
        if part.start < start:
            return {"index": place, "function": {"arguments": text}}
        function = {"name": part.tool, "arguments": text}
        return {"index": place, "id": self._id_of(index, number), "type": "function", "function": function}

    def _id_of(self, index: int, number: int) -> str:
        return f"chatcmpl-tool-{make_seed(str(self.request.seeds[index]), str(number)):016x}"

    def _finish_reason(self, answer: Answer) -> str:
        called = answer.finish_reason == "stop" and any(part.kind is Kind.CALL for part in answer.parts)
        return "tool_calls" if called else answer.finish_reason

    def _echo(self, index: int) -> str:
        return "".join(self.request.prompts[index // self.request.n]) if self.request.echo else ""

    def _logprobs(self, index: int, answer: Answer, start: int, end: int) -> Document | None:
        if self.request.logprobs is None:
            return None
        seed = self.request.seeds[index]
        places = range(start, min(end, len(answer.tokens)))
        if self.request.chat:
            return {"content": [self._place(seed, place, answer) for place in places]}
        offsets = [sum(len(token) for token in answer.tokens[:place]) for place in places]
        return {
            "text_offset": offsets,
            "token_logprobs": [logprob(seed, place, 0, wrong=answer.wrong) for place in places],
            "tokens": [answer.tokens[place] for place in places],
            "top_logprobs": [self._top(seed, place, answer) for place in places],
        }

    def _place(self, seed: int, place: int, answer: Answer) -> Document:
        token = answer.tokens[place]
        others = alternatives(seed, place, token, self.request.logprobs or 0)
        values = [logprob(seed, place, rank, wrong=answer.wrong) for rank in range(max(len(others), 1))]
        top = [_entry(other, values[rank]) for rank, other in enumerate(others)]
        return {**_entry(token, values[0]), "top_logprobs": top}

    def _top(self, seed: int, place: int, answer: Answer) -> Document:
        others = alternatives(seed, place, answer.tokens[place], self.request.logprobs or 1)
        return {other: logprob(seed, place, rank, wrong=answer.wrong) for rank, other in enumerate(others)}


def _entry(token: str, value: float) -> Document:
    return {"token": token, "logprob": value, "bytes": list(token.encode("utf-8", "surrogatepass"))}
