"""API keys of local mode: hashes in the state directory."""

import os
import stat
from pathlib import Path

import pytest

from capstan_contract.config import GatewayConfig
from capstan_contract.keys import digest_of
from capstan_operator.desired.api_keys import KeyFault
from capstan_operator.desired.issued import Terms
from capstan_operator.local.errors import ForeignFolder, KeysUnreadable, NoSuchKey
from capstan_operator.local.key_file import LocalKeys
from capstan_operator.local.statedir import state_directory

EMPTY = GatewayConfig.build(())


async def test_only_a_hash_is_kept_of_a_key(tmp_path: Path) -> None:
    """It is valid in the gateway's config by the salt of the file, and its value is nowhere in the state directory."""
    keys = LocalKeys(tmp_path / "state")
    await keys.create("a", "sk-capstan-secret", Terms(user="alice", tenant="acme", models="b, a"))
    config = keys.into(EMPTY)
    entry = config.keys[0]
    assert (entry.id, entry.user, entry.tenant, entry.models) == ("a", "alice", "acme", ("a", "b"))
    assert entry.digest == digest_of(config.keySalt, b"sk-capstan-secret")
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert all(b"sk-capstan-secret" not in path.read_bytes() for path in files)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    (issued,) = await keys.all()
    assert (issued.terms.user, issued.terms.tenant, issued.terms.models) == ("alice", "acme", "b, a")


async def test_a_session_keeps_the_keys_that_were_made_before_it(tmp_path: Path) -> None:
    """Whatever else of the state directory begins anew; and a key can be made while a session is on."""
    state = tmp_path / "state"
    keys = LocalKeys(state)
    await keys.create("a", "sk-capstan-secret", Terms())
    with state_directory(state):
        assert [one.name for one in await keys.all()] == ["a"]
        await keys.create("b", "sk-capstan-another", Terms())
    with state_directory(state):
        assert [one.name for one in await keys.all()] == ["a", "b"]


async def test_a_folder_that_is_no_state_directory_is_left_alone(tmp_path: Path) -> None:
    """No key is put beside somebody's files."""
    (tmp_path / "mine").touch()
    with pytest.raises(ForeignFolder):
        await LocalKeys(tmp_path).create("a", "sk-capstan-secret", Terms())
    assert os.listdir(tmp_path) == ["mine"]


async def test_names_and_keys_are_there_once(tmp_path: Path) -> None:
    """A second one of either is refused, and the first stays."""
    keys = LocalKeys(tmp_path)
    await keys.create("a", "sk-capstan-secret", Terms())
    for name, value in (("a", "sk-capstan-another"), ("b", "sk-capstan-secret")):
        with pytest.raises(KeyFault):
            await keys.create(name, value, Terms())
    assert len(await keys.all()) == 1


async def test_a_key_ends_and_goes(tmp_path: Path) -> None:
    """As it is said."""
    keys = LocalKeys(tmp_path)
    await keys.create("a", "sk-capstan-secret", Terms())
    (issued,) = await keys.all()
    await keys.expire(issued, 1_900_000_000)
    assert keys.into(EMPTY).keys[0].expires == 1_900_000_000
    await keys.delete(issued)
    assert keys.into(EMPTY) is EMPTY
    with pytest.raises(NoSuchKey):
        await keys.expire(issued, 1)


async def test_the_first_start_makes_a_key_and_the_next_ones_show_the_same(tmp_path: Path) -> None:
    """Until somebody revokes it: then it is not made anew, and not shown."""
    keys = LocalKeys(tmp_path)
    first, again = keys.first(), keys.first()
    assert first is not None
    assert again is not None
    assert (first.is_new, again.is_new) == (True, False)
    assert first.value == again.value
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert (keys.into(EMPTY).keys[0].tenant, keys.into(EMPTY).keys[0].user) == ("local", "")
    (issued,) = await keys.all()
    await keys.delete(issued)
    assert keys.first() is None
    assert keys.into(EMPTY) is EMPTY


def test_who_removes_the_file_of_keys_begins_anew(tmp_path: Path) -> None:
    """As a damaged one says: all its keys are revoked by it, and the next start makes another one."""
    keys = LocalKeys(tmp_path)
    before = keys.first()
    (tmp_path / "keys" / "keys.json").unlink()
    made, again = keys.first(), keys.first()
    assert before is not None
    assert made is not None
    assert again is not None
    assert (made.is_new, again.is_new) == (True, False)
    assert made.value == again.value != before.value
    assert len(keys.into(EMPTY).keys) == 1


async def test_who_has_made_keys_before_the_first_start_gets_no_other_one(tmp_path: Path) -> None:
    """That key would be one that nobody asked for."""
    keys = LocalKeys(tmp_path)
    await keys.create("a", "sk-capstan-secret", Terms())
    assert keys.first() is None
    assert [one.name for one in await keys.all()] == ["a"]


def test_the_admin_key_is_made_once(tmp_path: Path) -> None:
    """The gateway and the session read the same file."""
    keys = LocalKeys(tmp_path)
    value = keys.admin_key()
    assert (keys.admin_key(), keys.admin_file.read_text().strip()) == (value, value)
    assert stat.S_IMODE(keys.admin_file.stat().st_mode) == 0o600


async def test_a_damaged_file_is_no_empty_one(tmp_path: Path) -> None:
    """Nothing is written over it, and nobody is let in or locked out by it."""
    keys = LocalKeys(tmp_path)
    await keys.create("a", "sk-capstan-secret", Terms())
    (tmp_path / "keys" / "keys.json").write_text("{")
    with pytest.raises(KeysUnreadable):
        await keys.all()
    with pytest.raises(KeysUnreadable):
        keys.into(EMPTY)
    with pytest.raises(KeysUnreadable):
        await keys.create("b", "sk-capstan-another", Terms())
    assert (tmp_path / "keys" / "keys.json").read_text() == "{"
