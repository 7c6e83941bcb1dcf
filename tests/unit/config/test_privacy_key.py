"""The key of users' hashes from its file."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from capstan_gateway.config.privacy_key import KNOWN_SECONDS, MAX_KEY_FILE_BYTES, PrivacyKeyFile
from capstan_gateway.dialects.targets.private import Pseudonyms
from support.wait import eventually

KEY = b"0123456789abcdef"


@asynccontextmanager
async def watching(path: Path, pseudonyms: Pseudonyms) -> AsyncIterator[None]:
    """Watch it while the block lasts."""
    task = asyncio.create_task(PrivacyKeyFile(path, pseudonyms, absent_seconds=0.01).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def name(pseudonyms: Pseudonyms) -> str:
    """What a user is called."""
    return pseudonyms.of("alice", at="m")


async def test_the_key_is_taken_as_soon_as_it_is_there(tmp_path: Path) -> None:
    """A file with a line end is the same key; processes that read it agree, and did not before."""
    path, one, two = tmp_path / "key", Pseudonyms(), Pseudonyms()
    assert name(one) != name(two)
    async with watching(path, one), watching(path, two):
        path.write_bytes(KEY + b"\n")
        await eventually(lambda: name(one) == name(two) == name(Pseudonyms(KEY)))
    assert any(thread.name.startswith("privacy-key-") for thread in threading.enumerate())


async def test_a_key_that_is_too_short_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, without the key; the gateway keeps the one of its process until a good one comes."""
    caplog.set_level(logging.INFO)
    path, pseudonyms = tmp_path / "key", Pseudonyms()
    before = name(pseudonyms)
    path.write_bytes(b"tooshort")
    async with watching(path, pseudonyms):
        await eventually(lambda: "too short" in caplog.text)
        assert name(pseudonyms) == before
        path.write_bytes(KEY)
        await eventually(lambda: name(pseudonyms) == name(Pseudonyms(KEY)))
    assert "tooshort" not in caplog.text
    assert KEY.decode() not in caplog.text


def test_a_key_that_is_too_short_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often the file is read: a warning every two seconds hides others. Another key is another warning."""
    file = PrivacyKeyFile(None, Pseudonyms())

    def warnings(*keys: bytes | None) -> int:
        caplog.clear()
        for key in keys:
            file.take(key)
        return sum("too short" in record.getMessage() for record in caplog.records)

    assert warnings(b"short", b"short", None, b"short") == 1
    assert warnings(b"other", b"other", b"") == 2
    assert warnings(KEY, b"", b"") == 1


def test_a_file_that_is_gone_changes_nothing() -> None:
    """Once there was a key it is looked at now and then, for another one; before, often."""
    pseudonyms = Pseudonyms()
    file = PrivacyKeyFile(None, pseudonyms, absent_seconds=3.0)
    before = name(pseudonyms)
    assert (file.take(None), file.take(b"x" * 15), name(pseudonyms)) == (3.0, 3.0, before)
    assert (file.take(KEY), name(pseudonyms)) == (KNOWN_SECONDS, name(Pseudonyms(KEY)))
    for nothing in (None, b"", b"short"):
        assert (file.take(nothing), name(pseudonyms)) == (KNOWN_SECONDS, name(Pseudonyms(KEY)))
    assert (file.take(KEY[::-1]), name(pseudonyms)) == (KNOWN_SECONDS, name(Pseudonyms(KEY[::-1])))


async def test_of_a_large_file_the_beginning_is_the_key(tmp_path: Path) -> None:
    """A path that leads to something else takes no memory."""
    path, pseudonyms = tmp_path / "key", Pseudonyms()
    path.write_bytes(b"0123456789" * 1000)
    async with watching(path, pseudonyms):
        await eventually(lambda: name(pseudonyms) == name(Pseudonyms((b"0123456789" * 1000)[:MAX_KEY_FILE_BYTES])))


async def test_without_a_file_there_is_nothing_to_do(caplog: pytest.LogCaptureFixture) -> None:
    """It is said once what follows of it."""
    caplog.set_level(logging.INFO)
    await PrivacyKeyFile(None, Pseudonyms()).run()
    assert "differ between processes" in caplog.text
