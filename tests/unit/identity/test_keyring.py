"""From an API key to whose it is."""

import sys
from collections.abc import Sequence

import pytest

from capstan_contract.keys import MAX_KEY_BYTES, KeyEntry
from capstan_gateway.errors import Unauthenticated
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.keyring import AT_A_STRETCH, NO_KEYS, Keyring, build_keyring
from capstan_gateway.identity.principal import NOBODY, Principal
from support.keys import SALT, key_entry, key_text

NOW = 1_700_000_000.0


def build(*entries: KeyEntry, salt: str = SALT, previous: Keyring = NO_KEYS) -> Keyring:
    """Give the keyring of these keys."""
    return run(entries, salt, previous)[0]


def run(entries: Sequence[KeyEntry], salt: str, previous: Keyring) -> tuple[Keyring, int]:
    """Give it, and how many steps it took."""
    steps, count = build_keyring(tuple(entries), salt, previous), 1
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            keyring: Keyring = end.value
            return keyring, count


def find(keyring: Keyring, text: str, now: float = NOW) -> Principal | None:
    """Look a key up at a time."""
    return keyring.find(text.encode(), lambda: now)


def test_a_key_says_all_that_its_entry_says() -> None:
    """User, team, tenant, tier, models and the name of the key."""
    keyring = build(key_entry("a", user="ann", team="red", tier="gold", models=("llama*",)), key_entry("b"))
    assert find(keyring, key_text("a")) == Principal(
        tenant="team:red", user="ann", team="red", tier="gold", key="a", models=("llama*",)
    )
    assert find(keyring, key_text("b")) == Principal(tenant="key:b", key="b")


@pytest.mark.parametrize("text", ["", "x", key_text("a")[:-1], key_text("a") + "x", key_text("a").upper()])
def test_another_text_is_nobodys(text: str) -> None:
    """A key is known as a whole or not at all."""
    assert find(build(key_entry("a")), text) is None


def test_a_hash_of_another_salt_is_nobodys() -> None:
    """The salt of the config is part of every hash."""
    assert find(build(key_entry("a", salt="f" * 32)), key_text("a")) is None


def test_what_is_too_long_is_not_hashed() -> None:
    """No key is longer than the bound, and a longer text costs nothing."""
    long = "x" * (MAX_KEY_BYTES + 1)
    assert find(build(key_entry("a", text=long)), long) is None
    assert find(build(key_entry("a", text=long[:-1])), long[:-1]) is not None


@pytest.mark.parametrize(("now", "valid"), [(NOW - 1, True), (NOW, False), (NOW + 1, False)])
def test_a_key_expires(now: float, valid: bool) -> None:
    """From its last second on it is refused; one beside it that says nothing of an end never is."""
    keyring = build(key_entry("a", expires=int(NOW)), key_entry("b"))
    assert (find(keyring, key_text("a"), now) is not None) is valid
    assert find(keyring, key_text("b"), now) is not None


def test_two_keys_of_one_user_are_valid_at_once() -> None:
    """The old and the new one of a rotation: each is known by its own name, both are of one tenant."""
    keyring = build(key_entry("old", user="ann"), key_entry("new", user="ann"))
    found = [find(keyring, key_text(name)) for name in ("old", "new")]
    assert [principal and (principal.tenant, principal.key) for principal in found] == [
        ("user:ann", "old"), ("user:ann", "new"),
    ]  # fmt: skip


def test_only_what_has_changed_is_made_anew() -> None:
    """Keys that are as they were keep their principals; with nothing changed the keyring itself is kept."""
    a, b = key_entry("a"), key_entry("b")
    before = build(a, b)
    assert build(a, b, previous=before) is before
    after = build(a, key_entry("b", tier="gold"), previous=before)
    assert find(after, key_text("a")) is find(before, key_text("a"))
    assert find(after, key_text("b")) == Principal(tenant="key:b", key="b", tier="gold")
    assert find(build(a, previous=after), key_text("b")) is None
    assert find(build(key_entry("a", salt="f" * 32), salt="f" * 32, previous=before), key_text("a")) is not None


def test_many_keys_are_taken_in_piece_by_piece() -> None:
    """A config with ten thousand keys never holds the loop for more than a few hundred of them."""
    entries = [key_entry(f"k{number}") for number in range(10_000)]
    keyring, steps = run(entries, SALT, NO_KEYS)
    assert (len(keyring), steps) == (10_000, 10_000 // AT_A_STRETCH + 1)
    assert find(keyring, key_text("k9999")) == Principal(tenant="key:k9999", key="k9999")


def test_a_look_up_does_the_same_whatever_keys_there_are() -> None:
    """With ten thousand keys as many calls are made as with one, for a key that is known as for one that is not."""

    def calls(keyring: Keyring, text: str) -> int:
        seen = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(count)
        find(keyring, text)
        sys.setprofile(None)
        return seen

    few, many = build(key_entry("k1")), build(*(key_entry(f"k{number}") for number in range(10_000)))
    assert len({calls(keyring, text) for keyring in (few, many) for text in (key_text("k1"), "sk-unknown")}) == 1


def test_who_is_let_in() -> None:
    """Without a known key nobody is, unless everybody is: then a key that is known still says who it is."""
    keyring, wall = build(key_entry("a")), lambda: NOW
    closed, opened = Gate(wall=wall), Gate(everybody=True, wall=wall)
    known = Principal(tenant="key:a", key="a")
    for gate in (closed, opened):
        assert gate.admit(key_text("a").encode(), keyring) == known
    for credential in (b"", b"dummy"):
        assert opened.admit(credential, keyring) is NOBODY
        with pytest.raises(Unauthenticated):
            closed.admit(credential, keyring)
    with pytest.raises(Unauthenticated):
        closed.admit(key_text("a").encode(), NO_KEYS)


def test_who_was_let_in_before() -> None:
    """Work that was begun with a key goes on for whoever has it by now, and ends where it is revoked, has expired, or
    is another tenant's; that of nobody goes on while everybody is served."""
    closed, opened = Gate(wall=lambda: NOW), Gate(everybody=True, wall=lambda: NOW)
    who = closed.admit(key_text("a").encode(), build(key_entry("a", tenant="acme")))
    assert not who.issuer
    for entries, found in (
        ((key_entry("a", tenant="acme", models=("m",)),), Principal(tenant="acme", key="a", models=("m",))),
        ((key_entry("a", tenant="other"),), None),
        ((key_entry("a", tenant="acme", expires=int(NOW)),), None),
        ((key_entry("b", tenant="acme"),), None),
    ):
        for gate in (closed, opened):
            assert gate.still(who, build(*entries), by_key=True) == found
    assert opened.still(NOBODY, NO_KEYS, by_key=True) is NOBODY
    assert closed.still(NOBODY, NO_KEYS, by_key=True) is None
