"""Files of a directory: which of them count, when they are other ones, and what is offered of them."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from capstan_contract.names import CONFIG_FILE
from capstan_gateway.config import files as watching
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.directory import DirectorySource
from capstan_gateway.config.files import MAX_FILE_BYTES, changes, read_files
from capstan_gateway.config.store import DIRECTORY, ConfigStore
from capstan_gateway.life.threads import Threads
from support.wait import PATIENCE, eventually


def test_regular_files_are_read_and_nothing_else(tmp_path: Path) -> None:
    """Also behind links, as Kubernetes mounts them; not folders, what it hides, or what is too large."""
    hidden = tmp_path / "..data"
    hidden.mkdir()
    (hidden / "config.json").write_bytes(b"{}")
    (tmp_path / "config.json").symlink_to(hidden / "config.json")
    (tmp_path / ".key").write_bytes(b"k")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "most").write_bytes(b"x" * MAX_FILE_BYTES)
    (tmp_path / "more").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    (tmp_path / "..2026").write_bytes(b"x")
    found = read_files(tmp_path)
    assert set(found) == {"config.json", ".key", "most"}
    assert (found["config.json"], found[".key"], len(found["most"])) == (b"{}", b"k", MAX_FILE_BYTES)
    assert read_files(tmp_path / "nowhere") == {}


def test_a_file_that_went_meanwhile_takes_no_other_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the listing and the reading it may go; the others are read all the same."""
    read = Path.read_bytes
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode())

    def reading(path: Path) -> bytes:
        if path.name == "b":
            raise FileNotFoundError(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    assert read_files(tmp_path) == {"a": b"a", "c": b"c"}


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[BaseException | None]:
    """What the notifications of a directory would say: None for a change, or an error."""
    said: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def awatch(directory: Path, **options: Any) -> AsyncIterator[set[object]]:
        watched.append({**options, "directory": directory})
        while True:
            hint = await said.get()
            if hint is not None:
                raise hint
            yield set()

    watched: list[dict[str, Any]] = []
    monkeypatch.setattr(watching, "awatch", awatch)
    monkeypatch.setattr(watching, "ABSENT_SECONDS", 0.0)
    said.watched = watched  # type: ignore[attr-defined]
    return said


async def soon(changed: AsyncIterator[None], hints: asyncio.Queue[BaseException | None]) -> bool:
    """Say whether a change is seen before the notifications have run out."""
    task = asyncio.ensure_future(anext(changed))
    hints.put_nowait(None)
    hints.put_nowait(None)
    await eventually(lambda: task.done() or hints.empty(), what="a change, or no more hints")
    if not task.done():
        # Both were taken: the second one only when the first had been looked at.
        task.cancel()
        return False
    await task
    while not hints.empty():
        hints.get_nowait()
    return True


@pytest.mark.parametrize("change", ["size", "time", "name", "inode", "gone", "none"])
async def test_a_change_is_one_of_the_files(tmp_path: Path, hints: Any, change: str) -> None:
    """By name, identity, time and size; a notification without any is none."""
    (tmp_path / "A").symlink_to(tmp_path / "nowhere")
    file = tmp_path / "a"
    file.write_bytes(b"1")
    changed = changes(tmp_path, Threads("files"))
    await anext(changed)
    state = file.stat()
    if change == "size":
        file.write_bytes(b"22")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "time":
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    elif change == "name":
        file.rename(tmp_path / "b")
    elif change == "inode":
        other = tmp_path / "..other"
        other.write_bytes(b"1")
        os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
        other.rename(file)
    elif change == "gone":
        file.unlink()
    assert await soon(changed, hints) == (change != "none")
    assert len(hints.watched) == 1, "it is watched as long as it is there"


async def test_a_directory_that_is_not_there_is_waited_for(tmp_path: Path, hints: Any) -> None:
    """There are no files until there are some; and again when it went."""
    folder = tmp_path / "later"
    changed = changes(folder, Threads("files"))
    async with asyncio.timeout(PATIENCE):
        await anext(changed)
        task = asyncio.ensure_future(anext(changed))
        folder.mkdir()
        (folder / "a").write_bytes(b"1")
        hints.put_nowait(None)
        await task
        assert set(read_files(folder)) == {"a"}
        (folder / "a").unlink()
        folder.rmdir()
        hints.put_nowait(None)
        await anext(changed)
        assert read_files(folder) == {}
        task = asyncio.ensure_future(anext(changed))
        await asyncio.sleep(0)
        folder.mkdir()
        (folder / "b").write_bytes(b"1")
        hints.put_nowait(None)
        await task
        assert set(read_files(folder)) == {"b"}


async def test_without_notifications_it_is_looked_again_and_again(tmp_path: Path, hints: Any) -> None:
    """A system that has none left is asked by polling from then on; a directory that went is waited for."""
    changed = changes(tmp_path, Threads("files"))
    await anext(changed)
    task = asyncio.ensure_future(anext(changed))
    for hint in (FileNotFoundError(), OSError("no space left")):
        hints.put_nowait(hint)
    await eventually(lambda: len(hints.watched) == 3, what="the third watch")
    (tmp_path / "a").write_bytes(b"1")
    hints.put_nowait(None)
    async with asyncio.timeout(PATIENCE):
        await task
    assert [options["force_polling"] for options in hints.watched] == [None, None, True]
    for options in hints.watched:
        assert (options["directory"], options["yield_on_timeout"], options["watch_filter"]) == (tmp_path, True, None)
        assert (options["debounce"], options["step"], options["rust_timeout"]) == (
            watching.DEBOUNCE_MILLISECONDS, watching.STEP_MILLISECONDS, watching.RECHECK_MILLISECONDS,
        )  # fmt: skip


class Offered:
    """A store that keeps what it is offered."""

    def __init__(self) -> None:
        self.said: list[tuple[object, str]] = []

    async def offer(self, documents: object, *, source: str) -> bool:
        """Keep it."""
        self.said.append((documents, source))
        return True

    def reject(self, reason: str, *, source: str) -> None:
        """Keep why."""
        self.said.append((reason, source))


async def test_a_directory_offers_what_is_new_once() -> None:
    """The same files again are nothing new; files without a config are a fault, said once."""
    store = Offered()
    source = DirectorySource(Path("/nowhere"), cast(ConfigStore, store))
    config, other = {CONFIG_FILE: b"{}"}, {CONFIG_FILE: b"{}", "shard-a-1.json": b""}
    missing = "config.json is not in the config directory"
    for files in ({}, {}, config, dict(config), other, {"a": b""}, config):
        await source.take(files)
    assert store.said == [
        (missing, DIRECTORY), (config, DIRECTORY), (other, DIRECTORY), (missing, DIRECTORY), (config, DIRECTORY),
    ]  # fmt: skip


async def test_a_directory_is_watched_for_ever(tmp_path: Path, hints: Any) -> None:
    """What is there is offered at once, and what changes later."""
    store = Offered()
    (tmp_path / CONFIG_FILE).write_bytes(b"1")
    source = asyncio.create_task(DirectorySource(tmp_path, cast(ConfigStore, store)).run())
    await eventually(lambda: store.said, what="the first offer")
    (tmp_path / CONFIG_FILE).write_bytes(b"22")
    hints.put_nowait(None)
    await eventually(lambda: len(store.said) == 2, what="the second offer")
    source.cancel()
    assert store.said == [({CONFIG_FILE: b"1"}, DIRECTORY), ({CONFIG_FILE: b"22"}, DIRECTORY)]


def test_only_what_fits_into_a_header_is_a_key() -> None:
    """Without spaces around it; an empty file, and one with anything but visible ASCII, holds none."""
    credentials = Credentials()
    credentials.take({"a": b" sk-~!\n", "b": b"", "c": b" \n", "d": b"a b", "e": b"\x7f", "f": b"\xc3\xa9", "g": b"!"})
    assert [credentials.key(name) for name in "abcdefgh"] == [b"sk-~!", *[None] * 5, b"!", None]
    credentials.take({"a": b"new"})
    assert [credentials.key(name) for name in "ag"] == [b"new", None]


async def test_mounted_keys_count_until_the_api_has_spoken(tmp_path: Path, hints: Any) -> None:
    """They lag behind: from then on they could only bring an older key back. Without a directory there are none."""
    await Credentials().run()
    (tmp_path / "a").write_bytes(b"1")
    credentials = Credentials(tmp_path)
    watched = asyncio.create_task(credentials.run())
    await eventually(lambda: credentials.key("a"), what="the mounted key")
    credentials.take_from_api({"b": b"2"}, complete=False)
    assert (credentials.key("a"), credentials.key("b")) == (b"1", b"2")
    (tmp_path / "a").write_bytes(b"22")
    for _ in range(3):
        hints.put_nowait(None)
    await eventually(hints.empty, what="the last hint")
    watched.cancel()
    assert (credentials.key("a"), credentials.key("b")) == (b"1", b"2")
