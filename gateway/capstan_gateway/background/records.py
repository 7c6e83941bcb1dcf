"""What is known of a background response before it is over, and what clients are told of it. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from capstan_gateway.background.status import Status
from capstan_gateway.dialects.clients.responses_answer import response_head
from capstan_gateway.dialects.fields import Document
from capstan_gateway.documents import known_fields, to_json
from capstan_gateway.identity.principal import Principal

INSTRUCTIONS: Final = "instructions"
ERROR: Final = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a response is from its beginning to its end."""

    id: str
    created_at: int
    """In Unix seconds, as all times here."""
    expires_at: int
    """When it has failed that is not over."""
    principal: Principal
    """Who has asked for it."""
    by_key: bool
    """Whether an API key of the config said who that is."""
    once: bool = False
    """Whether it must not be asked again once it may have been sent."""
    headers: tuple[tuple[str, str], ...] = ()
    """Those of the request that say how it is answered."""

    def written(self) -> bytes:
        """Give it as it is kept."""
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, written: bytes) -> "Spec":
        """Read it."""
        document = orjson.loads(written)
        who = document.pop("principal")
        who["models"] = tuple(who["models"])
        document["headers"] = tuple((name, value) for name, value in document["headers"])
        return cls(**known_fields(cls, document), principal=Principal(**known_fields(Principal, who)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A response without an answer, in two pieces of JSON: it is told often, and may be as long as its request."""

    head: bytes
    """All of it but `status`, `error` and `instructions`."""
    instructions: bytes

    @classmethod
    def of(cls, request: Document, *, response_id: str, now: int) -> "Told":
        """Give what is told of a request that was taken `now`. Raises TooDeep for what cannot be written."""
        number = response_id.removeprefix("resp_")
        document = response_head({"id": number, "created": now}, request, now=now, stored=True)
        instructions = document.pop(INSTRUCTIONS)
        for name in ("status", ERROR):
            del document[name]
        return cls(head=to_json({**document, "background": True}), instructions=to_json(instructions))

    def open(self, status: Status) -> bytes:
        """Give the response as it is while it is not over."""
        return self._written(status, b"null", self.instructions)

    def ended(self, status: Status, error: Mapping[str, Any] | None = None) -> bytes:
        """Give the response that is over without an answer. It does not say its instructions: nobody has taken out of
        those what guards would."""
        return self._written(status, b"null" if error is None else orjson.dumps(error), b"null")

    def _written(self, status: Status, error: bytes, instructions: bytes) -> bytes:
        return b'{"status":"%b","error":%b,"instructions":%b,%b' % (
            status.value.encode(), error, instructions, self.head[1:],
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A response that is not over."""

    spec: Spec
    status: Status
    told: Told
    body: bytes
    """The request that is asked."""
    waits: int = 0
    """How often it was to wait, as whoever gave it back has said."""
    unsent: bool = False
    """Whether whoever had it before gave it back, and nobody has the request."""

    @classmethod
    def read(cls, kept: Mapping[bytes, bytes]) -> "Record | None":
        """Read the fields of its key; None where there is none."""
        spec, status, head, body = (kept.get(name) for name in (b"spec", b"status", b"head", b"body"))
        if spec is None or status is None or head is None or body is None:
            return None
        told = Told(head=head, instructions=kept.get(b"instructions", b"null"))
        return cls(
            spec=Spec.read(spec), status=Status(status.decode()), told=told, body=body,
            waits=int(kept.get(b"waits", 0)), unsent=b"unsent" in kept,
        )  # fmt: skip


def is_unanswered(response: Mapping[str, Any]) -> bool:
    """Whether a stored response has no answer that could be gone on from."""
    return response.get("status") in (Status.FAILED, Status.CANCELLED)
