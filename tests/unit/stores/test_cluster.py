"""Redis Cluster, as far as it is pure: slots, the map, and where we are sent."""

import pytest

from capstan_contract.redis_address import Node
from capstan_gateway.stores.cluster import SLOTS, read_map, redirected, slot_of
from capstan_gateway.stores.wire import Refused

ASKED = Node("seed", 1)


@pytest.mark.parametrize(
    ("key", "slot"),
    [("123456789", 12739), ("foo", 12182), ("x{foo}y", 12182), ("{foo}{bar}", 12182), ("{}foo", 9500), ("foo{", 7673)],
)
def test_slots(key: str, slot: int) -> None:
    """A key's slot is that of Redis' own CLUSTER KEYSLOT: of what is between the first braces, if that is not empty."""
    assert slot_of(key) == slot


def test_the_map() -> None:
    """Each slot's master is read from CLUSTER SLOTS; a node that says no host is reached as it was asked."""
    slots = read_map([[0, 99, [b"a", 7, b"id"], [b"b", 8]], [100, SLOTS - 1, [b"", 9, b"id", []]]], ASKED)
    assert (slots[0], slots[99], slots[100], slots[-1]) == (
        Node("a", 7),
        Node("a", 7),
        Node("seed", 9),
        Node("seed", 9),
    )


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("MOVED 3999 10.0.0.1:6381", ("MOVED", 3999, Node("10.0.0.1", 6381))),
        ("ASK 1 ::1:6381", ("ASK", 1, Node("::1", 6381))),
        ("MOVED 1 :6381", ("MOVED", 1, Node("seed", 6381))),
        ("MOVED 99999 a:1", None), ("MOVED x a:1", None), ("MOVED 1 a", None), ("OOM no room here", None),
    ],
)  # fmt: skip
def test_redirections(said: str, where: object) -> None:
    """MOVED and ASK say where a slot is; nothing else does, however much it looks like it."""
    assert redirected(Refused(said), ASKED) == where
