"""The guards of a policy over texts, without a gateway: what `capstan guard test` runs as a process of its own.

    python -m capstan_gateway.guards.check

It reads lines of JSON. The first one is the compiled body of a GuardPolicy with a `stage`, and is answered by what its
guards are; each further one is a text with its `source`, and is answered by what they find in it. Guards that ask
somebody are told as not tried. Nothing of what is read goes anywhere else.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from pydantic import ValidationError

from capstan_contract.guards import AnyGuard, GuardBody, PiiGuard, Source, check_guard_body, models_of_guard
from capstan_gateway.guards.build import build_detector
from capstan_gateway.guards.port import Detector


@dataclass(frozen=True)
class Tried:
    """One guard, and what looks."""

    guard: AnyGuard
    detector: Detector | None
    """None: somebody is asked, which is not tried."""

    def action_of(self, kind: str) -> str:
        """Say what becomes of a text in which something of this kind is found."""
        entities = self.guard.entities if isinstance(self.guard, PiiGuard) else ()
        own = next((one.action for one in entities if one.type == kind and one.action is not None), None)
        return str(own or self.guard.action)


def tried(body: GuardBody, stage: str) -> tuple[Tried, ...]:
    """Give the guards of a stage. ValueError, naming the guard, when one of them cannot be enforced."""
    found = []
    for guard in body.output if stage == "output" else body.input:
        try:
            found.append(Tried(guard, build_detector(guard)))
        except ValueError as error:
            raise ValueError(f"the guard `{guard.name}` cannot be enforced: {error}") from error
    return tuple(found)


def look(guards: Iterable[Tried], text: str, source: Source) -> dict[str, Any]:
    """Give what the guards find in a text, and how many seconds that took."""
    started = time.perf_counter()
    scans = [
        (one, one.detector.scan(text, source))
        for one in guards
        if one.detector is not None and source in one.guard.appliesTo
    ]
    seconds = time.perf_counter() - started
    findings = [
        {
            "guard": one.guard.name, "kind": found.kind, "action": one.action_of(found.kind),
            "start": found.start, "end": found.end, "score": found.score,
        }
        for one, scan in scans
        for found in scan.findings
    ]  # fmt: skip
    return {
        "findings": findings,
        "doubt": max((scan.doubt or 0.0 for _, scan in scans), default=0.0),
        "seconds": seconds,
    }


def answers(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Give the answer to each line; an `error` is the last one."""
    try:
        first = json.loads(next(lines))
        guards = tried(check_guard_body(first["body"]), first["stage"])
    except (ValidationError, ValueError, KeyError, StopIteration) as error:
        yield {"error": str(error) or type(error).__name__}
        return
    yield {
        "guards": [
            {
                "name": one.guard.name, "type": one.guard.type, "tried": one.detector is not None,
                "asks": any(models_of_guard(one.guard)),
            }
            for one in guards
        ]
    }  # fmt: skip
    for line in lines:
        asked = json.loads(line)
        yield look(guards, asked["text"], Source(asked["source"]))


def main(lines: Iterable[str], out: TextIO) -> None:
    """Answer line by line."""
    for answer in answers(iter(lines)):
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
