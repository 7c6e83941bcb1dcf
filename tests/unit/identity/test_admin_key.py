"""The key of the admin pages, from its file."""

import asyncio
from pathlib import Path

import pytest

from capstan_gateway.errors import Unauthenticated
from capstan_gateway.identity.admin_key import MAX_FILE_BYTES, AdminKey, Standing, usable_keys, whole_words
from support.wait import eventually

OLD, NEW = b"old-old-old-old-old", b"new-new-new-new-new"


def is_valid(key: AdminKey, credential: bytes) -> bool:
    """Say whether a key lets one in."""
    try:
        key.check(credential)
    except Unauthenticated:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (OLD, [OLD]), (OLD + b"\n", [OLD]), (OLD + b"\r\n" + NEW + b"\n", [OLD, NEW]), (b"\n\n " + OLD, [OLD]),
        (b"", []), (b"short", []), (b"short\n" + OLD, [OLD]), (b"with a blank in it", []),
        (OLD + b"\n" + NEW + b"\nthird-third-third", [OLD, NEW]), (b"\xff" * 20, []),
        (OLD + b" " + NEW, [OLD, NEW]), (OLD + b"  " + NEW + b" \n", [OLD, NEW]),
    ],
)  # fmt: skip
def test_a_file_has_keys_apart_by_blanks_or_lines(text: bytes, keys: list[bytes]) -> None:
    """The first two that could be keys count."""
    assert usable_keys(text) == keys


async def test_two_keys_are_valid_while_one_is_replaced(tmp_path: Path) -> None:
    """An added key is valid at once beside the old one, until that is removed; a file that goes changes nothing."""
    file = tmp_path / "key"
    key = AdminKey(file, look_seconds=0.01)
    assert key.standing is Standing.NOT_READ
    work = asyncio.create_task(key.run())
    await eventually(lambda: key.standing is Standing.ABSENT, what="the first look")
    for text, valid in ((OLD, {OLD}), (OLD + b"\n" + NEW, {OLD, NEW}), (NEW, {NEW})):
        file.write_bytes(text)
        await eventually(lambda valid=valid: {k for k in (OLD, NEW) if is_valid(key, k)} == valid, what="the keys")
    file.unlink()
    await asyncio.sleep(0.05)
    assert is_valid(key, NEW)
    assert key.standing is Standing.KNOWN
    work.cancel()


def test_who_sends_the_whole_file_is_let_in_by_a_key_in_it() -> None:
    """Prometheus sends all of a Secret: two keys while one is replaced, whichever of them a gateway has."""
    for held in (OLD, NEW, OLD + b" " + NEW):
        key = AdminKey()
        key.take(held)
        assert is_valid(key, OLD + b" " + NEW)
        assert not is_valid(key, b"a-guess-a-guess-a b-guess-b-guess-b " + held)


def test_words_that_are_no_keys_do_not_count_in_what_is_sent_either() -> None:
    """Who sends a whole file is let in, whatever stands in it before the keys."""
    key = AdminKey()
    key.take(b"short1 short2 " + OLD)
    assert is_valid(key, b"short1 short2 " + OLD)
    assert is_valid(key, OLD)


def test_half_a_key_is_none() -> None:
    """Of a file that is too long to be read whole the last word that was read is no key."""
    whole = b"x" * (MAX_FILE_BYTES - 40) + b" " + OLD
    assert whole_words(whole) == whole
    assert whole_words((whole + b" " + NEW * 4)[: MAX_FILE_BYTES + 1]).endswith(b" " + OLD)
    assert whole_words(b"x" * (MAX_FILE_BYTES + 1)) == b""


def test_what_is_not_the_key_is_refused() -> None:
    """Also the empty credential, and every one while there is no key."""
    key = AdminKey()
    assert key.standing is Standing.NOT_ASKED_FOR
    assert not any(is_valid(key, credential) for credential in (b"", OLD))
    key.take(OLD)
    assert [is_valid(key, credential) for credential in (OLD, OLD + b"x", OLD[:-1], b"", NEW)] == [
        True, False, False, False, False,
    ]  # fmt: skip


def test_a_file_without_a_key_takes_none_away(caplog: pytest.LogCaptureFixture) -> None:
    """A file that is emptied, or holds something too short, is warned of once without its content."""
    key = AdminKey(Path("/nowhere"))
    key.take(OLD)
    for _ in range(2):
        key.take(b"hunter2")
    assert is_valid(key, OLD)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "the file of the admin key has none"
    ]
    assert "hunter2" not in caplog.text
