"""What the scripts of client libraries share: their prompts, and how they say what the client saw.

    PYTHON tests/clients/SCRIPT.py GATEWAY PICTURE

GATEWAY is the gateway's address without /v1, PICTURE the file of a picture. Printed is one line of JSON: for each row
of docs/compatibility.md, for each of its columns, what the client saw, or how it failed. The Python is that of
scripts/clients.sh, so this module and the scripts know nothing of the project.
"""

import asyncio
import inspect
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

GATEWAY = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
V1 = f"{GATEWAY}/v1"
PICTURE = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("picture.png")
MODEL = "coder"
KEY = "any"
WEATHER = {"Oslo": "7 degrees", "Rome": "21 degrees"}
"""What the tool says of each city."""

Scenario = Callable[[str], Any]
"""Takes the prompt, gives what the client saw."""
Scenarios = Mapping[str, Scenario]


def run(rows: Mapping[str, Scenarios]) -> None:
    """Run all of it, one after the other, and print what was seen."""
    seen = {row: {does: _seen(row, does, scenario) for does, scenario in of.items()} for row, of in rows.items()}
    print(json.dumps(seen))


def _seen(row: str, does: str, scenario: Scenario) -> Any:
    prompt = f"[{row}|{does}] What is the weather in Oslo and in Rome?"
    try:
        found = scenario(prompt)
        return asyncio.run(found) if inspect.isawaitable(found) else found
    except Exception:  # noqa: BLE001 - whatever it is, the test tells of it
        return {"failed": traceback.format_exc(limit=-4)}


def failures(ask: Callable[[str], Any], prompt: str) -> dict[str, Any]:
    """Ask what a busy engine refuses, and what is too long for it; give what was raised."""
    return {why: _raised(lambda why=why: ask(f"{prompt} ({why})")) for why in ("busy", "long")}


def _raised(ask: Callable[[], Any]) -> dict[str, Any]:
    try:
        found = ask()
        if inspect.isawaitable(found):
            asyncio.run(found)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test tells of it
        return {"class": type(error).__name__, "status": status_of(error), "says": str(error)}
    return {"class": None}


def status_of(error: BaseException) -> int | None:
    """Give the HTTP status that an error, or what caused it, knows."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    return status_of(error.__cause__) if error.__cause__ else None


def calls(*pairs: tuple[str, Any]) -> list[list[Any]]:
    """Write calls of tools down: each name with its arguments."""
    return [[name, arguments] for name, arguments in pairs]


def counted(whole: Sequence[Any], stream: Sequence[Any]) -> dict[str, Any]:
    """Write the tokens down, of prompt and answer, as the client has them of a whole answer and of a stream."""
    return {"whole": list(whole), "stream": list(stream)}
