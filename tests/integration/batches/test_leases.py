"""Who works on a batch, in a real Redis: leases, tokens, and answers that are moved into objects."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest

from capstan_gateway.batches.files import UPLOAD_SECONDS, FileBounds, Files, TooManyFiles, UploadOver
from capstan_gateway.batches.names import Names, new_batch_id, new_file_id
from capstan_gateway.batches.objects import PART_BYTES, FilesDown, ObjectGone, Objects
from capstan_gateway.batches.outputs import Outputs
from capstan_gateway.batches.records import WINDOW_SECONDS, BatchSpec, FileRecord
from capstan_gateway.batches.results import ERROR, OUTPUT
from capstan_gateway.batches.scripts import CREATE, DROP_FILE
from capstan_gateway.batches.state import ORPHAN_SECONDS, Batches, Lease, LeaseLost, TooManyBatches
from capstan_gateway.batches.status import Status
from capstan_gateway.identity.principal import Principal
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.redis import RedisStore
from support.redis_server import redis_server

pytestmark = pytest.mark.redis
NAMES = Names.of("acme")


class Room(NamedTuple):
    """What a test works with."""

    batches: Batches
    files: Files
    store: RedisStore

    def lease(self, batch_id: str, token: str) -> Lease:
        """Give a lease that is not acquired yet."""
        return Lease(NAMES, batch_id, token)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Files and batches on a Redis of the test's own, with leases that end when a test says so."""
    with redis_server(tmp_path) as server:
        store = RedisStore(server.url, rng=Random(1), seconds=10.0)  # noqa: S311 - jitter
        bounds = FileBounds(file_bytes=100, files=3, files_bytes=250, seconds=1000)
        files = Files(store, Objects(f"file://{tmp_path}/files"), bounds)
        yield Room(Batches(store, most=3, seconds=1000, lease_seconds=1000.0), files, store)
        await store.aclose()


def spec(**changed: Any) -> BatchSpec:
    """Give a batch."""
    given: dict[str, Any] = {
        "id": new_batch_id(), "endpoint": "/v1/embeddings", "input_file_id": new_file_id(), "created_at": 1,
        "expires_at": 2, "principal": Principal(tenant="acme", models=("a", "b*")), "by_key": False,
        "output_seconds": 1000,
        "output_file_id": new_file_id(), "error_file_id": new_file_id(), **changed,
    }  # fmt: skip
    return BatchSpec(**given)


async def begun(room: Room) -> Lease:
    """Create a batch, take it and bring it in progress."""
    one = spec()
    await room.batches.create(NAMES, one)
    lease = room.lease(one.id, "a")
    assert await room.batches.acquire(lease) == 1
    assert await room.batches.move(lease, Status.IN_PROGRESS, {"total": 9})
    return lease


async def content(room: Room, file_id: str) -> bytes:
    """Give the bytes of a file."""
    record = await room.files.find(NAMES, file_id)
    assert record is not None
    data = b"".join([part async for part in room.files.read(NAMES, record)])
    assert len(data) == record.size
    return data


async def test_one_has_a_batch_at_a_time(room: Room) -> None:
    """Nobody else gets a batch whose lease holds; when it has ended one does, and the first one is refused."""
    lease = await begun(room)
    other = room.lease(lease.batch_id, "b")
    assert await room.batches.acquire(other) == 0
    room.batches.lease_seconds = 0.0  # It ends as soon as it is renewed.
    assert not await room.batches.renew(lease)
    room.batches.lease_seconds = 1000.0
    assert await room.batches.acquire(other) == 2
    for call in (
        room.batches.renew(lease), room.batches.record(lease, 1, OUTPUT, b"x"),
        room.batches.move(lease, Status.FINALIZING), Outputs(
            lease, room.batches, room.files, await room.batches.read(other)
        ).put(1, OUTPUT, b"x\n"),
        room.files.keep(lease, FileRecord(id="file-1", filename="a", purpose="x", created_at=1, expires_at=2)),
    ):  # fmt: skip
        with pytest.raises(LeaseLost):
            await call
    await room.batches.release(lease)
    assert await room.batches.acquire(room.lease(lease.batch_id, "c")) == 0
    await room.batches.release(other)
    assert await room.batches.acquire(room.lease(lease.batch_id, "c")) == 2


async def test_a_batch_is_given_back_at_once(room: Room) -> None:
    """Who gives a batch back leaves it to the next one, however many of its lines are done; each that does not counts,
    until one is done."""
    lease = await begun(room)
    await room.batches.record(lease, 1, OUTPUT, b"x\n")
    await room.batches.release(lease)
    second = room.lease(lease.batch_id, "b")
    assert await room.batches.acquire(second) == 1
    await room.batches.release(second)
    room.batches.lease_seconds = 0.0
    assert [await room.batches.acquire(room.lease(lease.batch_id, name)) for name in "cde"] == [1, 2, 3]
    await room.batches.record(room.lease(lease.batch_id, "e"), 2, OUTPUT, b"x\n")
    assert await room.batches.acquire(room.lease(lease.batch_id, "f")) == 1


async def test_a_batch_that_is_over_is_open_no_more(room: Room) -> None:
    """An end takes a batch from the list of what is to be worked on, and nothing follows it."""
    lease = await begun(room)
    assert [one.batch_id for one in await room.batches.open()] == [lease.batch_id]
    assert not await room.batches.move(lease, Status.COMPLETED)
    assert await room.batches.move(lease, Status.FINALIZING)
    assert await room.batches.move(lease, Status.COMPLETED, {"gives_output": 1})
    assert await room.batches.open() == []
    assert not await room.batches.cancel(NAMES, lease.batch_id)
    assert await room.batches.acquire(room.lease(lease.batch_id, "b")) == -1
    found = await room.batches.find(NAMES, lease.batch_id)
    assert found is not None
    assert (found.status, found.spec.principal.models) == (Status.COMPLETED, ("a", "b*"))
    assert await room.batches.find(Names.of("other"), lease.batch_id) is None


async def test_a_line_is_in_the_files_once(room: Room) -> None:
    """Whoever goes on after a crash, wherever that was, has each line that was done, and none of them twice."""
    lease = await begun(room)
    first = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    await first.load()
    await first.put(1, OUTPUT, b"one\n")
    await first.put(2, ERROR, b"two\n")
    await first.flush()
    await first.put(3, OUTPUT, b"three\n")
    # An object was written, and nobody was told: what is in Redis is flushed anew.
    await room.files.objects.put(f"{NAMES.folder((await room.batches.read(lease)).spec.output_file_id)}/000001-a", b"x")
    # Redis was told of an object, and not yet what to let go of.
    await room.batches.record(lease, 1, OUTPUT, b"stale\n")
    second = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    await second.load()
    assert [number for number in range(6) if number in second.done] == [1, 2, 3]
    await second.put(4, OUTPUT, b"four\n")
    assert await second.close() == {"gives_output": 1, "gives_errors": 1}
    batch = await room.batches.read(lease)
    assert await content(room, batch.spec.output_file_id) == b"one\nthree\nfour\n"
    assert await content(room, batch.spec.error_file_id) == b"two\n"
    assert await room.batches.results(lease) == {}


@pytest.mark.parametrize("call", ["flush", "record"])
async def test_who_is_cut_off_loses_nothing(room: Room, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whoever is cancelled when Redis has taken what it says, and it has not heard so, loses no line by that."""
    lease = await begun(room)
    outputs = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    await outputs.put(1, OUTPUT, b"one\n")
    taken, answered, real = asyncio.Event(), asyncio.Event(), getattr(room.batches, call)

    async def slow(*arguments: Any, **named: Any) -> Any:
        done = await real(*arguments, **named)
        taken.set()
        await answered.wait()
        return done

    monkeypatch.setattr(room.batches, call, slow)
    task = asyncio.create_task(outputs.flush() if call == "flush" else outputs.put(2, OUTPUT, b"two\n"))
    await taken.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    answered.set()
    await outputs.put(3, OUTPUT, b"three\n")
    await outputs.close()
    found = await content(room, (await room.batches.read(lease)).spec.output_file_id)
    assert sorted(found.split()) == sorted([b"one", b"three"] + [b"two"] * (call == "record"))


async def test_a_line_that_was_cut_off_has_one_answer(room: Room) -> None:
    """A line whose answer Redis has, though nobody here has heard so, gets no other one, of whatever kind."""
    lease = await begun(room)
    outputs = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    await room.batches.record(lease, 1, OUTPUT, b"one\n")
    await room.batches.record(lease, 2, ERROR, b"two\n")
    assert not await outputs.put(1, ERROR, b"not asked\n")
    assert not await outputs.put(2, OUTPUT, b"asked again\n")
    assert await outputs.put(3, ERROR, b"three\n")
    assert [number for number in range(5) if number in outputs.done] == [1, 2, 3]
    await outputs.close()
    batch = await room.batches.read(lease)
    assert await content(room, batch.spec.output_file_id) == b"one\n"
    assert await content(room, batch.spec.error_file_id) == b"two\nthree\n"
    assert (batch.completed, batch.failed) == (1, 2)


async def test_a_large_answer_is_never_in_redis(room: Room) -> None:
    """An answer of many MiB goes into objects of a few MiB at once; the line is done by that, once, for others too."""
    lease = await begun(room)
    outputs = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    large = b"x" * (2 * PART_BYTES + 7) + b"\n"
    await outputs.put(1, OUTPUT, b"one\n")
    assert await outputs.put(2, OUTPUT, large)
    assert list(await room.batches.results(lease)) == [b"1o"]
    assert not await outputs.put(2, ERROR, b"again\n")
    assert not await outputs.put(2, ERROR, large)
    assert not await outputs.put(1, ERROR, large)
    second = Outputs(lease, room.batches, room.files, await room.batches.read(lease))
    await second.load()
    assert [number for number in range(4) if number in second.done] == [1, 2]
    assert await second.close() == {"gives_output": 1}
    batch = await room.batches.read(lease)
    assert (batch.completed, batch.failed) == (2, 0)
    assert await content(room, batch.spec.output_file_id) == large + b"one\n"
    record = await room.files.find(NAMES, batch.spec.output_file_id)
    assert record is not None
    for part in record.parts:
        assert len(await room.files.objects.get(f"{NAMES.folder(record.id)}/{part}")) <= PART_BYTES


async def test_batches_are_bounded(room: Room) -> None:
    """There are so many of a tenant: what is over makes room, the oldest first, and what is not never does."""
    specs = [spec(created_at=number) for number in range(3)]
    for one in specs:
        await room.batches.create(NAMES, one)
    with pytest.raises(TooManyBatches):
        await room.batches.create(NAMES, spec(created_at=7))
    assert await room.batches.cancel(NAMES, specs[1].id)
    lease = room.lease(specs[1].id, "a")
    await room.batches.acquire(lease)
    await room.batches.move(lease, Status.CANCELLED)
    newest = spec(created_at=8)
    await room.batches.create(NAMES, newest)
    assert await room.batches.ids(NAMES) == [newest.id, specs[2].id, specs[0].id]
    assert await room.batches.find(NAMES, specs[1].id) is None


async def test_nobody_dies_between_a_batch_and_the_list_of_all(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is in the list of all before it is there: what a gateway that dies between leaves is no batch, and is
    taken out in time; what is refused leaves nothing."""
    real = room.store.run_script

    async def dies(script: str, *arguments: Any) -> int:
        if script == CREATE:
            raise StoreDown("died")
        return await real(script, *arguments)

    now = int(room.batches.wall())
    one = spec(created_at=now, expires_at=now + WINDOW_SECONDS)
    with monkeypatch.context() as patched:
        patched.setattr(room.store, "run_script", dies)
        with pytest.raises(StoreDown):
            await room.batches.create(NAMES, one)
    assert await room.batches.find(NAMES, one.id) is None
    [listed] = await room.batches.open()
    assert (listed.batch_id, listed.until) == (one.id, one.expires_at)
    assert await room.batches.acquire(room.lease(one.id, "a")) == -2
    assert not await room.batches.forget(listed)
    room.batches.wall = lambda: now + ORPHAN_SECONDS + 1.0
    assert await room.batches.forget(listed)
    for number in range(3):
        await room.batches.create(NAMES, spec(created_at=number))
    with pytest.raises(TooManyBatches):
        await room.batches.create(NAMES, one)
    assert one.id not in {listed.batch_id for listed in await room.batches.open()}


async def test_what_is_cancelled_comes_first(room: Room) -> None:
    """The list of all says which batches are to be cancelled, and has them before all others."""
    specs = [spec(created_at=number, expires_at=number + 9) for number in range(3)]
    for one in specs:
        await room.batches.create(NAMES, one)
    assert await room.batches.cancel(NAMES, specs[2].id)
    assert [(one.batch_id, one.until) for one in await room.batches.open()] == [
        (specs[2].id, 0), (specs[0].id, 9), (specs[1].id, 10),
    ]  # fmt: skip


async def test_what_a_newer_release_has_written_is_read(room: Room) -> None:
    """Fields that this release does not know of are passed over, in files, batches and whoever has made them."""
    one = spec()
    for kind, known, inner in (
        (BatchSpec, one, "principal"),
        (FileRecord, FileRecord(id="file-1", filename="a", purpose="batch", created_at=1, expires_at=2), None),
    ):
        document = {**orjson.loads(known.written()), "new": 1}
        if inner is not None:
            document[inner]["new"] = 2
        assert kind.read(orjson.dumps(document)) == known
    assert await room.batches.open() == []


async def test_files_are_bounded_and_swept(room: Room, tmp_path: Path) -> None:
    """A tenant has so many files and bytes; what is over, or broke off, goes with its objects, and gives its room."""
    upload = await room.files.begin(NAMES, filename="a", purpose="batch", size=None)
    await upload.write(b"x" * 60)
    record = await upload.finish()
    broken = await room.files.begin(NAMES, filename="b", purpose="batch", size=100)
    await broken.write(b"y")
    with pytest.raises(TooManyFiles, match="250 bytes"):
        await room.files.begin(NAMES, filename="c", purpose="batch", size=91)
    await room.files.begin(NAMES, filename="c", purpose="batch", size=90)
    with pytest.raises(TooManyFiles, match="3 files"):
        await room.files.begin(NAMES, filename="d", purpose="batch", size=1)
    assert await room.files.all(NAMES) == [record]
    await room.files.sweep()
    assert await content(room, record.id) == b"x" * 60
    later = Files(room.store, room.files.objects, room.files.bounds, wall=lambda: record.created_at + 4000.0)
    assert await later.find(NAMES, record.id) is None
    await later.sweep()
    assert await room.files.all(NAMES) == []
    assert await room.store.read(NAMES.sizes, ("",)) == [b"0"]
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []


async def test_what_cannot_be_deleted_now_is_deleted_later(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is deleted while its objects cannot be had is gone for all, gives its room, and is swept away; one
    folder that cannot be deleted holds up no other one."""
    files = []
    for _ in range(2):
        upload = await room.files.begin(NAMES, filename="a", purpose="batch", size=100)
        await upload.write(b"x" * 100)
        files.append(await upload.finish())
    real, down = room.files.objects.delete, {NAMES.folder(one.id) for one in files}

    async def delete(folder: str) -> None:
        if folder in down:
            raise FilesDown("away")
        await real(folder)

    monkeypatch.setattr(room.files.objects, "delete", delete)
    for one in files:
        assert await room.files.delete(NAMES, one.id)
        assert not await room.files.delete(NAMES, one.id)
        assert await room.files.objects.get(f"{NAMES.folder(one.id)}/{one.parts[0]}")
    assert await room.files.all(NAMES) == []
    assert await room.store.read(NAMES.sizes, ("",)) == [b"0"]
    # Whichever of both is looked at first.
    for gone, left in (files, files[::-1]):
        for one in files:
            await room.files._put(NAMES, replace(one, ready=False, created_at=0), size=0, bounded=False)
        await room.files.objects.put(f"{NAMES.folder(gone.id)}/000000", b"x")
        down.clear()
        down.add(NAMES.folder(left.id))
        with pytest.raises(FilesDown):
            await room.files.sweep()
        with pytest.raises(ObjectGone):
            await room.files.objects.get(f"{NAMES.folder(gone.id)}/000000")
    down.clear()
    await room.files.sweep()
    assert await room.store.read_all(NAMES.files) == {}


async def test_an_upload_has_its_time(room: Room) -> None:
    """An upload that takes longer than it may is refused at its end, whether or not it was swept away by then."""
    for swept in (False, True):
        upload = await room.files.begin(NAMES, filename="a", purpose="batch", size=9)
        await upload.write(b"x")
        if swept:
            await room.store.run_script(DROP_FILE, (NAMES.files, NAMES.sizes), (upload._record.id,))
        else:
            at = room.files._wall() + UPLOAD_SECONDS
            room.files._wall = lambda at=at: at
        with pytest.raises(UploadOver):
            await upload.finish()
        await upload.abort()
    assert await room.store.read_all(NAMES.files) == {}


async def test_without_redis_nothing_is_known(tmp_path: Path) -> None:
    """Where Redis is away that is said, and nothing is made up."""
    with redis_server(tmp_path) as server:
        store = RedisStore(server.url, rng=Random(1), seconds=0.5)  # noqa: S311 - jitter
        batches = Batches(store, most=3, seconds=1000)
        server.kill()
        for call in (batches.create(NAMES, spec()), batches.open(), batches.ids(NAMES)):
            with pytest.raises(StoreDown):
                await call
        await store.aclose()
