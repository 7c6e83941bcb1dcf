"""What is known of a file and of a batch: as it is kept, and as clients are told. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import orjson

from capstan_gateway.batches.status import Status, at_field
from capstan_gateway.documents import known_fields
from capstan_gateway.identity.principal import Principal

BATCH_INPUT: Final = "batch"
BATCH_OUTPUT: Final = "batch_output"
WINDOW: Final = "24h"
WINDOW_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """One file."""

    id: str
    filename: str
    purpose: str
    created_at: int
    """In Unix seconds, as all times here."""
    expires_at: int
    size: int = 0
    """In bytes."""
    parts: tuple[str, ...] = ()
    """The objects in its folder that are the file, one behind the other."""
    ready: bool = True
    """False while it is being uploaded: then nobody but the one who does knows of it."""

    def written(self) -> bytes:
        """Give it as it is kept."""
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, written: bytes) -> "FileRecord":
        """Read it."""
        document = orjson.loads(written)
        document["parts"] = tuple(document["parts"])
        return cls(**known_fields(cls, document))

    def told(self) -> dict[str, Any]:
        """Give it as clients are told."""
        return {
            "id": self.id, "object": "file", "bytes": self.size, "created_at": self.created_at,
            "expires_at": self.expires_at, "filename": self.filename, "purpose": self.purpose,
            "status": "processed", "status_details": None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """What a batch is from its beginning to its end."""

    id: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    principal: Principal
    """Who has asked for it."""
    by_key: bool
    """Whether an API key of the config said who that is."""
    metadata: dict[str, str] | None = None
    window: str = WINDOW
    output_seconds: int = 0
    """How long its files are kept."""
    output_file_id: str
    error_file_id: str
    """Of the files that it gives, if it has something to give."""
    lines: int = 0
    """How many requests it has, where that is known when it is made; 0: that is found out."""
    headers: tuple[tuple[str, str], ...] = ()
    """What is said in the head of each of its requests."""

    def written(self) -> bytes:
        """Give it as it is kept."""
        return orjson.dumps(asdict(self))

    @classmethod
    def read(cls, written: bytes) -> "BatchSpec":
        """Read it."""
        document = orjson.loads(written)
        who = document.pop("principal")
        who["models"] = tuple(who["models"])
        document["headers"] = tuple((name, value) for name, value in document.get("headers", ()))
        return cls(**known_fields(cls, document), principal=Principal(**known_fields(Principal, who)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The objects of one of the files that a batch gives."""

    names: tuple[str, ...] = ()
    size: int = 0
    """In bytes, all together."""

    def plus(self, name: str, size: int) -> "Parts":
        """Give them with one more."""
        return replace(self, names=(*self.names, name), size=self.size + size)

    def written(self) -> bytes:
        """Give them as they are kept."""
        return orjson.dumps([self.size, *self.names])

    @classmethod
    def read(cls, written: bytes) -> "Parts":
        """Read them."""
        if not written:
            return cls()
        size, *names = orjson.loads(written)
        return cls(names=tuple(names), size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch as it is now."""

    spec: BatchSpec
    status: Status
    times: Mapping[str, int] = field(default_factory=dict)
    """When it came to which status, by `status.at_field`."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    model: str = ""
    errors: bytes = b""
    done: bytes = b""
    output: Parts = Parts()
    error: Parts = Parts()
    gives_output: bool = False
    gives_errors: bool = False

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> "BatchRecord | None":
        """Read the fields of its key; None where there is no batch."""
        spec, status = fields.get(b"spec"), fields.get(b"status")
        if spec is None or status is None:
            return None
        times = {
            name: int(fields[name.encode()]) for name in map(at_field, Status) if name.encode() in fields
        }  # fmt: skip
        return cls(
            spec=BatchSpec.read(spec), status=Status(status.decode()), times=times,
            total=int(fields.get(b"total", 0)), completed=int(fields.get(b"completed", 0)),
            failed=int(fields.get(b"failed", 0)), model=fields.get(b"model", b"").decode(),
            errors=fields.get(b"errors", b""), done=fields.get(b"done", b""),
            output=Parts.read(fields.get(b"output", b"")), error=Parts.read(fields.get(b"error", b"")),
            gives_output=b"gives_output" in fields, gives_errors=b"gives_errors" in fields,
        )  # fmt: skip

    def told(self) -> dict[str, Any]:
        """Give it as clients are told."""
        spec = self.spec
        return {
            "id": spec.id, "object": "batch", "endpoint": spec.endpoint, "model": self.model or None,
            "errors": orjson.loads(self.errors) if self.errors else None,
            "input_file_id": spec.input_file_id, "completion_window": spec.window, "status": self.status.value,
            "output_file_id": spec.output_file_id if self.gives_output else None,
            "error_file_id": spec.error_file_id if self.gives_errors else None,
            "created_at": spec.created_at, "expires_at": spec.expires_at,
            **{
                at_field(status): self.times.get(at_field(status))
                for status in Status
                if status is not Status.VALIDATING
            },
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": spec.metadata,
        }  # fmt: skip
