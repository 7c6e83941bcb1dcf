"""Four processes with the limiter of a gateway and one Redis: exactly what the limit says is admitted."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.needs import ROOT
from support.redis_server import RedisServer, redis_server
from support.wait import wait_until

pytestmark = pytest.mark.redis
REPETITIONS = 20
HOUR = 3_600_000


class Member:
    """One process."""

    def __init__(self, url: str, *, skew: float, one_by_one: bool) -> None:
        path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", ""), str(ROOT / "gateway")])
        mode = "one-by-one" if one_by_one else "shares"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.limit_process", url, str(skew), mode],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def begin(self, **said: Any) -> None:
        """Say something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Hear what came of it."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def members(server: RedisServer, *, skews: Sequence[float] = (0, 0, 0, 0), one_by_one: bool) -> Iterator[list[Member]]:
    """Four processes that all know of each other."""
    with ExitStack() as stack:
        found = []
        for skew in skews:
            found.append(Member(server.url, skew=skew, one_by_one=one_by_one))
            stack.callback(found[-1].kill)
        wait_until(lambda: _all(found, state=True)[0]["gateways"] >= 1, what="the processes")
        yield found


def _all(found: Sequence[Member], **said: Any) -> list[Any]:
    """Say the same to all at once."""
    for member in found:
        member.begin(**said)
    return [member.end() for member in found]


def rules(begin: int) -> dict[str, tuple[dict[str, Any], int]]:
    """Rules by their names, and what one request takes: 50 fit."""
    return {
        "requests": ({"rate": [50, 24 * HOUR, 50]}, 1),
        "budget": ({"quota": [50 * 1_234_567, begin, HOUR]}, 1_234_567),
        "concurrency": ({"slots": 50}, 1),
    }


@pytest.mark.parametrize("one_by_one", [False, True], ids=["shares", "one-by-one"])
def test_exactly_fifty(tmp_path: Path, one_by_one: bool) -> None:
    """Of 200 at once on a limit of 50 exactly 50 are admitted, again and again; what is given back is had again."""
    with redis_server(tmp_path) as server, members(server, one_by_one=one_by_one) as found:
        for number in range(REPETITIONS):
            for name, (rule, amount) in rules(int(time.time() * 1000) - 10_000).items():
                ask = {"ask": 50, "rule": rule, "amount": amount, "key": f"{name}{number}"}
                assert sum(_all(found, **ask)) == 50, name
                assert sum(_all(found, settle=0)) == 50
                assert sum(_all(found, **ask)) == 50, name
                assert sum(_all(found, settle=amount)) == 50
                again = sum(_all(found, **ask))
                assert again == (50 if name == "concurrency" else 0), name
                _all(found, settle=0)


def test_clocks_that_are_wrong(tmp_path: Path) -> None:
    """Clocks that are up to five seconds wrong, at the edge of a period as well, change nothing."""
    with redis_server(tmp_path) as server, members(server, skews=(-5, 0, 2.5, 5), one_by_one=False) as found:
        # The period began two seconds ago: by the clock of the first it has not.
        for name, (rule, amount) in rules(int(time.time() * 1000) - 2_000).items():
            assert sum(_all(found, ask=50, rule=rule, amount=amount, key=name)) == 50, name
            _all(found, settle=amount)


@pytest.mark.parametrize("limit", [2_000, 20_000])
def test_large_limits_are_shared_out(tmp_path: Path, limit: int) -> None:
    """With shares no more than a large limit is admitted, and all of it is, in the end."""
    rule = {"quota": [limit, int(time.time() * 1000) - 10_000, HOUR]}
    with redis_server(tmp_path) as server, members(server, one_by_one=False) as found:
        admitted = 0
        for _ in range(limit // 200 + 20):
            admitted += sum(_all(found, ask=50, rule=rule, amount=1, key="k"))
            _all(found, settle=1)
        assert admitted <= limit
        if limit > 10_000:
            assert any(state["from_shares"] for state in _all(found, state=True))

        def the_rest() -> bool:
            nonlocal admitted
            admitted += sum(_all(found, ask=50, rule=rule, amount=1, key="k"))
            _all(found, settle=1)
            return admitted >= limit

        wait_until(the_rest, what="the rest")
        assert admitted == limit
        assert sum(_all(found, ask=50, rule=rule, amount=1, key="k")) == 0


def test_gateways_know_of_each_other(tmp_path: Path) -> None:
    """Each process knows how many share the limits."""
    with redis_server(tmp_path) as server, members(server, one_by_one=False) as found:
        wait_until(lambda: all(state["gateways"] == 4 for state in _all(found, state=True)), what="four gateways")
