"""A running gateway that is asked what the guards of a policy find: of `capstan guard test --gateway`.

The policy must be in force on the model that is named, in whichever mode: what is tried is what the gateway runs, with
the models and services that the guards ask. Nothing is answered by the model itself (`/v1/guard/check`).
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from capstan_contract.guards import Action, OnError, Source

PATH: Final = "/v1/guard/check"
SECONDS: Final = 120
"""For one answer: a guard has 60 s at most, and several may follow one another."""
MOST_ANSWER_BYTES: Final = 64 * 1024 * 1024
MOST_TRIES: Final = 5
"""Of one text, where limits or an overload send it away."""
LONGEST_WAIT_SECONDS: Final = 60.0
_LATER: Final = (429, 503)
_ROLES: Final = {Source.SYSTEM: "system", Source.USER: "user", Source.ASSISTANT: "assistant"}


class NoAnswer(Exception):
    """The gateway does not say what guards find; the message says why."""


@dataclass(frozen=True)
class Gateway:
    """Asks about one model."""

    url: str
    model: str
    policy: str
    """`namespace/name` of the policy that is tried."""
    stage: str
    source: Source
    key: str = field(default="", repr=False)
    rest: Callable[[float], None] = time.sleep

    def look(self, text: str) -> dict[str, Any]:
        """Give what the policy's guards find in a text, which of them could not decide and why, whether the others may
        not have been asked because of that (`over`), and how many seconds the answer took."""
        body = json.dumps({"model": self.model, "stage": self.stage, **self._asked(text)}).encode()
        for tries in range(MOST_TRIES):
            started = time.perf_counter()
            try:
                told = self._post(body)
            except HTTPError as error:
                self._wait(error, last=tries + 1 == MOST_TRIES)
                continue
            except (URLError, OSError, HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                raise NoAnswer(f"no answer from {urlsplit(self.url).hostname}: {reason}") from None
            return self._read(told, time.perf_counter() - started)
        raise NoAnswer("no answer")

    def _asked(self, text: str) -> dict[str, Any]:
        if self.stage == "output":
            if self.source is not Source.TEXT:
                raise NoAnswer(f"a gateway can be asked about texts of Text in the output, and not of {self.source}")
            return {"input": text}
        if self.source is Source.TOOL_RESULTS:
            return {"messages": [{"role": "tool", "tool_call_id": "1", "content": text}]}
        if self.source is Source.DOCUMENTS:
            return {"messages": [{"role": "user", "content": [{"type": "document", "text": text}]}]}
        return {"messages": [{"role": _ROLES[self.source], "content": text}]}

    def _post(self, body: bytes) -> bytes:
        request = Request(f"{self.url}{PATH}", body, {"content-type": "application/json"})  # noqa: S310
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - http or https, as was looked at
            read: bytes = answer.read(MOST_ANSWER_BYTES)
            return read

    def _wait(self, error: HTTPError, *, last: bool) -> None:
        after = error.headers.get("retry-after", "")
        if error.code not in _LATER or last:
            raise NoAnswer(f"the gateway answers {error.code}: {_message(error.read(65536)) or error.reason}")
        self.rest(min(float(after) if after.isdecimal() else 1.0, LONGEST_WAIT_SECONDS))

    def _read(self, body: bytes, seconds: float) -> dict[str, Any]:
        try:
            told = json.loads(body)
            policies, guards, failed = told["policies"], told["guards"], told["failed"]
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(
                f"{self.url} answers in another form: is it a gateway of Capstan's, of this release?"
            ) from None
        if self.policy not in policies:
            raise NoAnswer(
                f"the policy {self.policy} is not in force on the model {self.model!r} there (policies of the"
                " installation, and those of others, are not told); apply it first, in `mode: Shadow` if need be"
            )
        found, failed = ([one for one in rows if one["policy"] == self.policy] for rows in (guards, failed))
        return {
            "findings": [finding for one in found for finding in _findings(one)],
            "failed": {one["guard"]: one["reason"] for one in failed},
            "over": any(one["action"] == Action.BLOCK for one in found)
            or any(one["onError"] == OnError.CLOSED for one in failed),
            "seconds": seconds,
        }


def _findings(guard: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"guard": guard["guard"], "kind": one["kind"], "action": guard["action"], "score": one["score"]}
        for one in guard["findings"]
    ]


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def address(url: str) -> str:
    """Give the base of the gateway's routes. NoAnswer for what is no address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoAnswer(f"--gateway must be http:// or https://, not {url!r}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
