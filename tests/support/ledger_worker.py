"""`capstan-worker` whose simulator writes down which requests its engine begins, ends and leaves.

    CAPSTAN_TEST_LEDGER=FILE python -m support.ledger_worker simulator ...

Each line of the file is `begin|end|left ID SECONDS`, by the clock of `time.monotonic`, which all processes share.
Requests are told apart by `<<answer: ID>>` in their last message, which the simulator also answers with. A line is
there when the call that writes it is over, also when the process is killed behind it.
"""

import os
import re
import sys
import time
from typing import Any, Final

from capstan_worker.__main__ import main
from capstan_worker.simulator.app import Simulator
from capstan_worker.simulator.exchange import Exchange

LEDGER: Final = "CAPSTAN_TEST_LEDGER"
_ID: Final = re.compile(r"<<answer: ?([^<> ]+)>>")


def _keep(file: int) -> None:
    answer = Simulator._chat

    def note(word: str, request_id: str) -> None:
        os.write(file, f"{word} {request_id} {time.monotonic():.6f}\n".encode())

    async def noted(simulator: Simulator, exchange: Exchange, body: dict[str, Any], number: str) -> None:
        found = _ID.search(str(body.get("messages")))
        if found is None:
            await answer(simulator, exchange, body, number)
            return
        note("begin", found[1])
        try:
            await answer(simulator, exchange, body, number)
        except BaseException:
            note("left", found[1])
            raise
        note("end", found[1])

    Simulator._chat = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    _keep(os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
    sys.exit(main())
