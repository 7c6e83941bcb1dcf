"""Where the operator serves something of its own: a port of its pods, and the Service before it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where it is."""

    port: int
    namespace: str
    service: str
    """Name of the Service before it, and of the Secret with its authority."""

    @property
    def host(self) -> str:
        """The name that callers look for in the certificate."""
        return f"{self.service}.{self.namespace}.svc"
