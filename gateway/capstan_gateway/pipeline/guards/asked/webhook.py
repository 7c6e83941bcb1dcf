"""Webhook: a guard of the user's own at a URL. What is sent and what may come back: docs/guards-asking.md.

What is sent is signed with the policy's secret over a time, a nonce, the method, the path and the body, so that the
receiver knows who asks, that it was asked itself, and that nobody sends a request again. With `verdict: Signed` the
verdict is signed over that nonce, so that it is the service's own, and the one to this question; else TLS must do.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from capstan_contract.guards import Action, Verdict, WebhookGuard
from capstan_gateway.documents import to_json
from capstan_gateway.guards.port import NOTHING, Finding, Scan
from capstan_gateway.guards.prompts.harms import slug
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.headers import Header
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.guards.asked.failures import NotAsked
from capstan_gateway.pipeline.guards.asked.service import exchange, service_at
from capstan_gateway.pipeline.guards.port import Case

VERSION: Final = 1
SIGNATURE: Final = b"x-capstan-signature"
"""Of what is sent, and of the answer to it."""
NONCE_BYTES: Final = 16
MOST_SENT_BYTES: Final = 1024 * 1024
MOST_FINDINGS: Final = 1024
MOST_MESSAGE_CHARS: Final = 500
UNNAMED: Final = "webhook"
_ACTIONS: Final = {"block": Action.BLOCK, "redact": Action.REDACT, "warn": Action.WARN}
_SEVERITY: Final = {Action.WARN: 0, Action.REDACT: 1, Action.BLOCK: 2}


class Webhook:
    """Asks the service."""

    def __init__(self, guard: WebhookGuard, deps: Deps, now: Callable[[], float] = time.time) -> None:
        """Make it. ValueError when its URL is none."""
        self._guard = guard
        self._deps = deps
        self._service = service_at(guard.url)
        self._now = now
        if guard.verdict is Verdict.SIGNED and guard.secretFile is None:
            raise ValueError("its verdict must be signed, and it has no secret for that")

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give what the service decides."""
        if not case.pieces:
            return []
        body = written(case, self._guard.name)
        if len(body) > MOST_SENT_BYTES:
            raise Unreadable("there is more text than a webhook is sent")
        secret, nonce = self._secret(), secrets.token_hex(NONCE_BYTES).encode()
        headers: list[Header] = []
        if secret is not None:
            headers.append((SIGNATURE, signature(secret, int(self._now()), nonce, self._service.path, body)))
        answer, told = await exchange(
            self._deps, self._service, case.ask, body, headers, everywhere=case.everywhere
        )  # fmt: skip
        if self._guard.verdict is Verdict.SIGNED and not is_signed(answer, told, secret, nonce):
            raise Unreadable("the webhook's verdict is not signed as it must be")
        return read_verdict(answer, [piece.text for piece in case.pieces], self._guard.action)

    def _secret(self) -> bytes | None:
        if self._guard.secretFile is None:
            return None
        secret = self._deps.credentials.key(self._guard.secretFile)
        if secret is None:
            raise NotAsked("the secret of a webhook is missing")
        return secret


def written(case: Case, guard: str) -> bytes:
    """Write what is sent."""
    pieces = [{"source": piece.source.value, "path": piece.path, "text": piece.text} for piece in case.pieces]
    return to_json(
        {
            "version": VERSION, "requestId": case.ask.request_id.decode("ascii", "replace"), "stage": case.stage.value,
            "policy": case.policy, "guard": guard, "pieces": pieces,
        }
    )  # fmt: skip


def signature(secret: bytes, at: int, nonce: bytes, path: bytes, body: bytes) -> bytes:
    """Sign what is sent: HMAC-SHA256 over the time in Unix seconds, the nonce, the method, the path with its query, and
    the body, a dot between each, in hexadecimal digits."""
    return b"t=%d,n=%b,v1=%b" % (at, nonce, _digest(secret, b"%d.%b.POST.%b.%b" % (at, nonce, path, body)))


def verdict_signature(secret: bytes, nonce: bytes, body: bytes) -> bytes:
    """Sign a verdict: HMAC-SHA256 over the word `verdict`, the nonce of the request, and the body of the answer."""
    return b"v1=" + _digest(secret, b"verdict.%b.%b" % (nonce, body))


def _digest(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, hashlib.sha256).hexdigest().encode()


def is_signed(answer: bytes, headers: Sequence[Header], secret: bytes | None, nonce: bytes) -> bool:
    """Whether an answer is what the holder of the secret says to the request with this nonce."""
    given = [value for name, value in headers if name.lower() == SIGNATURE]
    if secret is None or len(given) != 1:
        return False
    return hmac.compare_digest(given[0].strip(), verdict_signature(secret, nonce, answer))


def read_verdict(answer: bytes, texts: Sequence[str], most: Action) -> list[Scan]:
    """Read what a service decides of these texts, and take it for nothing severer than `most`.

    Unreadable for whatever is not a verdict as documented: then nobody has decided.
    """
    try:
        verdict = orjson.loads(answer)
    except orjson.JSONDecodeError:
        verdict = None
    if not isinstance(verdict, dict):
        raise Unreadable("the webhook answered something that is not a JSON object")
    said, message = verdict.get("action"), verdict.get("message")
    if said == "allow":
        return [NOTHING] * len(texts)
    action = _ACTIONS.get(said) if isinstance(said, str) else None
    if action is None:
        raise Unreadable("the webhook's `action` is none that is known")
    if message is not None and (not isinstance(message, str) or len(message) > MOST_MESSAGE_CHARS):
        raise Unreadable("the webhook's `message` is not a short text")
    action = min(action, most, key=lambda one: _SEVERITY[one])
    found = _findings(verdict.get("findings"), texts, action)
    if not any(found):
        found = [[Finding(UNNAMED, 0, len(text), action=action)] for text in texts]
    return [Scan(findings=sorted(one, key=_by_place), message=message or None) for one in found]


def _findings(told: Any, texts: Sequence[str], action: Action) -> list[list[Finding]]:
    found: list[list[Finding]] = [[] for _ in texts]
    if told is None:
        return found
    if not isinstance(told, list) or len(told) > MOST_FINDINGS:
        raise Unreadable("the webhook's `findings` are not a list, or too many")
    for one in told:
        number, finding = _finding(one, texts, action)
        found[number].append(finding)
    return found


def _finding(one: Any, texts: Sequence[str], action: Action) -> tuple[int, Finding]:
    fields: Mapping[str, Any] = one if isinstance(one, dict) else {}
    piece, start, end, kind = (fields.get(name) for name in ("piece", "start", "end", "kind"))
    if type(piece) is not int or not 0 <= piece < len(texts):
        raise Unreadable("a finding of the webhook is in no piece")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(texts[piece]):
        raise Unreadable("a finding of the webhook is at no place of its piece")
    if kind is not None and not isinstance(kind, str):
        raise Unreadable("the kind of a finding of the webhook is not a text")
    return piece, Finding(UNNAMED if kind is None else slug(kind[:64]), start, end, action=action)


def _by_place(finding: Finding) -> tuple[int, int]:
    return finding.start, finding.end
