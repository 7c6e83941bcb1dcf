"""Objects in a directory and in a bucket."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capstan_gateway.batches.objects import FilesDown, ObjectGone, Objects
from fakes.s3 import FakeBucket, fake_bucket

KEY = "key-of-the-environment"


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeBucket]:
    """A bucket, which the environment leads to."""
    async with fake_bucket("files") as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield running


async def check(objects: Objects) -> None:
    """An object is what was put, the last time; a folder is deleted with all that is in it, and with nothing else."""
    await objects.put("t-a/file-1/000000", b"one")
    await objects.put("t-a/file-1/000001", b"\0" * 5_000_000)
    await asyncio.gather(*(objects.put(f"t-a/file-1/x{number:06d}", b"x") for number in range(120)))
    await objects.put("t-a/file-10/000000", b"other")
    await objects.put("t-a/file-1/000000", b"again")
    assert await objects.get("t-a/file-1/000000") == b"again"
    assert await objects.get("t-a/file-1/000001") == b"\0" * 5_000_000
    await objects.delete("t-a/file-1")
    for part in ("000000", "000001", "x000000", "x000077", "x000119"):
        with pytest.raises(ObjectGone):
            await objects.get(f"t-a/file-1/{part}")
    await objects.delete("t-a/file-1")
    assert await objects.get("t-a/file-10/000000") == b"other"


async def test_a_directory(tmp_path: Path) -> None:
    """Objects in a directory, which is made."""
    await check(Objects(f"file://{tmp_path}/deep/er"))


async def test_a_bucket(bucket: FakeBucket) -> None:
    """Objects in a bucket, below its prefix, with credentials of the environment; a failure is tried again."""
    objects = Objects("s3://files/some/where")
    bucket.fails, bucket.page = 1, 50
    await check(objects)
    assert list(bucket.objects) == ["some/where/t-a/file-10/000000"]
    assert [KEY in one for one in bucket.authorizations] == [True]


async def test_a_place_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, or nothing may be written, that is said in time, without the address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (tmp_path / "file").write_text("in the way")
    for objects in (Objects("s3://files/x", seconds=0.5), Objects(f"file://{tmp_path}/file/below")):
        with pytest.raises(FilesDown) as raised:
            await objects.put("t-a/file-1/000000", b"one")
        assert "127.0.0.1" not in str(raised.value)
        assert str(tmp_path) not in str(raised.value)
