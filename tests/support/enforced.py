"""What the tests of policies on the cluster wait for: what a policy says of itself, and what every replica does."""

import time
from collections.abc import Callable
from typing import Any, Final

from support.cluster import Cluster
from support.wait import wait_until

MANY: Final = 12
"""Requests on connections of their own: that all of them come to one of two replicas has a chance of 1 in 2,000."""
PROGRAMMED: Final = {"Accepted": ("True", "Accepted"), "Programmed": ("True", "Programmed")}


def enforced(ask: Callable[[], object], expected: object, *, what: str) -> None:
    """Wait until every answer is this one, whichever replica gives it, and print how long that took from now on, when
    the command that changed something has come to its end: less than 2 s where nothing else keeps the machine busy."""
    since = began = time.monotonic()

    def everywhere() -> bool:
        nonlocal began
        began = time.monotonic()
        return {ask() for _ in range(MANY)} == {expected}

    wait_until(everywhere, every=0.02, what=what)
    # NB: when the last round of questions began, and not how long it took: it was enforced by then.
    print(f"{what}: by every replica after {began - since:.2f} s")


def told(capstan: Cluster, kind: str, name: str, namespace: str, **expected: tuple[str, str]) -> dict[str, Any]:
    """Wait until the conditions of the newest generation of a policy say this; give the policy."""
    found: dict[str, Any] = {}

    def says() -> bool:
        nonlocal found
        found = capstan.get(kind, name, namespace) or {}
        conditions = {
            one["type"]: (one["status"], one["reason"])
            for one in (found.get("status") or {}).get("conditions") or ()
            if one["observedGeneration"] == found["metadata"]["generation"]
        }
        assert conditions == expected, found
        return True

    wait_until(says, every=0.1, what=f"the conditions of {name}")
    return found
