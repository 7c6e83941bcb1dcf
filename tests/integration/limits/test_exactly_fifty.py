"""Many at once, in several processes, on one Redis: exactly as many are admitted as there may be."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from capstan_gateway.limits.encode import reserve_call
from capstan_gateway.limits.port import LEASE_MS, Quota, Rate, Rule, Slots
from capstan_gateway.limits.shared import SharedLimitStore
from support.limits import at_once, charge
from support.lua_limits import ScriptRunner
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis

DAY_MS = 86_400_000
BEGUN = int(time.time() * 1000) - DAY_MS // 2  # so that no period ends while the tests run
RULES: dict[str, Rule] = {
    "rate": Rate(amount=50, window_ms=DAY_MS, capacity=50),
    "budget": Quota(limit=50, starts_ms=tuple(BEGUN + DAY_MS * step for step in (-1, 0, 1, 2))),
    "concurrency": Slots(limit=50),
}
PROCESS = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    import redis
    from support.limits import at_once, charge
    from support.lua_limits import ScriptRunner
    from capstan_gateway.limits.port import Quota, Rate, Slots
    from capstan_gateway.limits.shared import SharedLimitStore

    port, name, rule = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
    store = SharedLimitStore(ScriptRunner(redis.Redis(port=port, protocol=2)))

    def one(number):
        return at_once(store.reserve(f"{name}-{number}", [charge(rule)])).admitted

    with ThreadPoolExecutor(50) as pool:
        print(",".join(str(number) for number, admitted in enumerate(pool.map(one, range(50))) if admitted))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("limits")) as server:
        yield server


def admitted_by_four(server: RedisServer, rule: Rule, turn: str) -> list[str]:
    """Ask 200 times, 50 at once in each of four processes, and give the ids that were admitted."""
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}

    def process(name: str) -> list[str]:
        command = [sys.executable, "-c", textwrap.dedent(PROCESS), str(server.port), name, repr(rule)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=True)
        return [f"{name}-{number}" for number in ran.stdout.strip().split(",") if number]

    with ThreadPoolExecutor(4) as pool:
        found = pool.map(process, [f"{turn}-{number}" for number in range(4)])
    return [id for ids in found for id in ids]


@pytest.mark.parametrize("kind", RULES)
def test_exactly_fifty_of_two_hundred(server: RedisServer, kind: str) -> None:
    """50 of 200 in four processes are admitted; when all of them are given back, exactly 50 of the next 200 are."""
    server.client().flushall()
    rule = RULES[kind]
    store = SharedLimitStore(ScriptRunner(server.client()))
    for turn in ("first", "second"):
        admitted = admitted_by_four(server, rule, turn)
        assert len(admitted) == 50
        for id in admitted:
            at_once(store.settle("policy", id, (0,)))


def test_nothing_outlives_its_use(server: RedisServer) -> None:
    """Every key that the scripts write has a time to live."""
    client = server.client()
    client.flushall()
    store = SharedLimitStore(ScriptRunner(client))
    charges = [charge(rule, key=name) for name, rule in RULES.items()]
    at_once(store.reserve("a", charges))
    at_once(store.reserve("b", charges, keeps=True))
    at_once(store.settle("policy", "b", (1, 1, 0)))
    at_once(store.settle("policy", "unknown", (1,)))
    at_once(store.renew("policy", [("a", (1, 1, 1))], lease_ms=LEASE_MS))
    keys = client.keys()
    assert len(keys) == 1 + 3 + len(charges)
    assert all(0 < client.pttl(key) <= 2 * DAY_MS for key in keys)


def dumped(client: "redis.Redis") -> dict[bytes, object]:
    """Give all that it holds."""
    return {key: client.dump(key) for key in client.scan_iter()}


def test_an_admission_is_refused_as_a_whole_where_memory_is_short(server: RedisServer) -> None:
    """A Redis that has no memory takes nothing of a reservation, and goes on with settling and renewing."""
    client = server.client()
    client.flushall()
    store = SharedLimitStore(ScriptRunner(client))
    charges = [charge(rule, key=name) for name, rule in RULES.items()]
    for id in ("a", "b"):
        at_once(store.reserve(id, charges))
    before = dumped(client)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.ResponseError, match="not allowed when used memory"):
            at_once(store.reserve("c", charges))
        assert dumped(client) == before
        at_once(store.renew("policy", [("b", (1, 1, 1))]))
        at_once(store.settle("policy", "a", (0, 0, 0)))
    finally:
        client.config_set("maxmemory", "0")
    seen = at_once(store.reserve("look", [charge(rule, 0, key=name) for name, rule in RULES.items()]))
    assert [standing.remaining for standing in seen.standings] == [49, 49, 49]


def test_all_keys_of_a_group_are_in_one_slot() -> None:
    """A Redis Cluster keeps them together: they have one hash tag, and another group has another one."""
    charges = [charge(rule, key=name) for name, rule in RULES.items()]
    call = reserve_call("a", charges, lease_ms=LEASE_MS, keeps=False, force=False)
    tags = {key[key.index("{") + 1 : key.index("}")] for key in call.keys}
    assert len(tags) == 1
    assert len(call.keys) == 2 + len(charges)
    other = reserve_call("a", [charge(Slots(1), group="other")], lease_ms=LEASE_MS, keeps=False, force=False)
    assert other.keys[0] != call.keys[0]
