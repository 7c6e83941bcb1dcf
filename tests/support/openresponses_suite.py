"""The compliance suite of Open Responses: which of its tests stand for which scenario, what it judges with, and itself.

The suite is `bin/compliance-test.ts` of github.com/openresponses/openresponses. No package of npm or PyPI ships it, so
that it runs where somebody has a checkout and names it. What it tries is tried here in our own words everywhere, and
judged by what it judges with: the zod schemas that kubb makes of the specification, which no JSON Schema is.
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from support.clients import NO_NETWORK, OPEN_RESPONSES, bun
from support.openresponses import Document, specification, specified_event, specified_response

CHECKOUT: Final = "CAPSTAN_OPENRESPONSES"
"""The variable that names the checkout."""
PROGRAM: Final = "bin/compliance-test.ts"
SECONDS: Final = 240
"""How long the program may take on a busy machine; it takes a second on an idle one, or 30 where a WebSocket hangs."""

PASSES: Final = {
    "basic text": ("basic-response",),
    "assistant message phase": ("assistant-phase",),
    "phase in an output's schema": ("response-output-phase-schema",),
    "streaming": ("streaming-response",),
    "system prompt": ("system-prompt",),
    "tool calling": ("tool-calling",),
    "tool calling, streaming": ("tool-calling-streaming",),
    "function call round trip": ("function-call-roundtrip",),
    "image input": ("image-input",),
    "file input": ("file-input",),
    "multi-turn": ("multi-turn",),
    "previous response id": ("previous-response-id",),
}
"""Scenarios, and the tests of the suite, of its several versions, that try each."""
LEFT_OUT: Final = {
    "compaction": ("compact-response", "compact-missing-model"),
    "WebSocket": (
        "websocket-response",
        "websocket-sequential-responses",
        "websocket-continuation",
        "websocket-generate-false",
        "websocket-reconnect-store-false-recovery",
        "websocket-previous-response-not-found",
        "websocket-failed-continuation-evicts-cache",
        "websocket-compact-new-chain",
    ),
    "tools of the server": ("file-search", "offline-web-search"),
}
"""What is not served here."""


def expected(test: str) -> str | None:
    """Say what becomes of a test of the suite, or None of one that nobody has looked at."""
    if any(test in tests for tests in PASSES.values()):
        return "passed"
    if test in LEFT_OUT["tools of the server"]:
        return "skipped"
    return "failed" if any(test in tests for tests in LEFT_OUT.values()) else None


def checkout() -> Path:
    """Give the checkout that was named; leave the test out where none was, in CI as well, which has none to name."""
    named = os.environ.get(CHECKOUT)
    if not named:
        pytest.skip(f"left out: needs a checkout of github.com/openresponses/openresponses, named by {CHECKOUT}")
    folder = Path(named)
    if not (folder / PROGRAM).exists():
        pytest.fail(f"{CHECKOUT}={named}: there is no {PROGRAM}")
    return folder


async def verdicts(folder: Path, gateway: str, model: str) -> dict[str, tuple[str, list[str]]]:
    """Run the suite's program, as it is, against a gateway; give each test's status and errors.

    Raises:
        AssertionError: it printed something else than its results.
        TimeoutError: it took longer than any of its tests may.

    """
    options = ("--base-url", f"{gateway}/v1", "--api-key", "unused", "--model", model, "--json")
    program = await asyncio.create_subprocess_exec(
        bun(), "run", PROGRAM, *options,
        cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        printed, said = await asyncio.wait_for(program.communicate(), SECONDS)
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    return read_verdicts(printed.decode(), said.decode())


def read_verdicts(printed: str, said: str = "") -> dict[str, tuple[str, list[str]]]:
    """Read what the program prints with `--json`; `said` is what it said of its own failure."""
    try:
        results = json.loads(printed)["results"]
    except (ValueError, KeyError, TypeError) as error:
        raise AssertionError(f"the suite printed no results: {printed[-500:]}{said[-3000:]}") from error
    return {result["id"]: (result["status"], result.get("errors") or []) for result in results}


def faults_in_zod(folder: Path, responses: Sequence[Document] = (), events: Sequence[Document] = ()) -> list[str]:
    """Give what responses, and events of streams, break of the suite's schemas; `folder` is for these.

    Raises:
        AssertionError: the schemas could not be made or read.

    """
    values = [{"event": False, "value": specified_response(response)} for response in responses]
    values += [{"event": True, "value": specified_event(event)} for event in events]
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [bun(), str(OPEN_RESPONSES / "judge.ts"), str(specification()), str(folder)],
        cwd=folder, env={**os.environ, **NO_NETWORK}, input=json.dumps(values), capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert len(found) == len(values)
    return [fault for faults in found for fault in faults]
