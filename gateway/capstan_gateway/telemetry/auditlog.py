"""One line of JSON for each decision of a guard: who decided what about which request, and never a word of it."""

from collections.abc import Callable
from typing import Final

from capstan_gateway.telemetry.requestlog import RequestLog

HEAD: Final = b'{"level":"info","logger":"capstan.audit","message":"guard decided",'


class AuditLog(RequestLog):
    """Collects lines and writes them together, as the request log does; JSON whatever form other logs have."""

    name = "audit-log"
    head = HEAD

    def __init__(
        self, descriptor: int = 2, *, enabled: bool = True, on_dropped: Callable[[int], None] = lambda _: None
    ) -> None:
        super().__init__(descriptor, enabled=enabled, on_dropped=on_dropped)
