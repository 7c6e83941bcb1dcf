"""Files and ports that a session owns."""

import socket
import stat
from functools import partial
from pathlib import Path

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.reading import join_config
from capstan_contract.sharding import split_config
from capstan_operator.local import configdir
from capstan_operator.local.configdir import write_config
from capstan_operator.local.engine_processes import rest_seconds
from capstan_operator.local.errors import AlreadyRunning, ForeignFolder, PortTaken
from capstan_operator.local.keys import variable_of, write_credentials
from capstan_operator.local.ports import check_port, free_ports
from capstan_operator.local.statedir import state_directory


def _entry(number: int) -> ModelEntry:
    name = f"model-{number}"
    return ModelEntry(
        id=f"default/{name}", generation=1, servedName=name, upstreamName=name, backend=StaticBackend(urls=())
    )


def _read(folder: Path) -> GatewayConfig:
    return join_config({path.name: path.read_text() for path in folder.iterdir()})


def test_config_survives_the_way_through_the_directory(tmp_path: Path) -> None:
    """What was written last is what a gateway reads, and nothing else lies in the folder."""
    for count in (3, 0, 1):
        config = GatewayConfig.build(tuple(_entry(number) for number in range(count)))
        write_config(tmp_path, config)
        assert _read(tmp_path) == config
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_shards_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that outgrows one file is split, and its shards vanish when it shrinks again."""
    monkeypatch.setattr(configdir, "split_config", partial(split_config, shard_bytes=2000))
    large = GatewayConfig.build(tuple(_entry(number) for number in range(20)))
    write_config(tmp_path, large)
    assert len(list(tmp_path.glob("shard-*.json"))) > 1
    assert _read(tmp_path) == large
    small = GatewayConfig.build((_entry(1),))
    write_config(tmp_path, small)
    assert list(tmp_path.glob("shard-*.json")) == []
    assert _read(tmp_path) == small


def test_only_the_owner_reads_the_state(tmp_path: Path) -> None:
    """Folder and files are closed to others, because credentials may be among them."""
    with state_directory(tmp_path / "state") as folder:
        write_credentials(folder / "credentials", {"default.m": ("default", "openai", "key")}, {"OPENAI_KEY": "s"})
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "credentials" / "default.m").stat().st_mode) == 0o600
    assert not (tmp_path / "state" / "credentials").exists()


def test_two_sessions_do_not_share_a_state_directory(tmp_path: Path) -> None:
    """The second one is told which process has it; after the first one's end it can begin."""
    with state_directory(tmp_path), pytest.raises(AlreadyRunning, match=r"process \d+"), state_directory(tmp_path):
        pytest.fail("the second session began")
    with state_directory(tmp_path):
        pass


@pytest.mark.parametrize("lock", [None, "", "held by somebody else\n"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, lock: str | None) -> None:
    """A folder that holds files without the lock of a session is refused, and nothing in it changes."""
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "mine.yaml").write_text("precious")
    folder.chmod(0o755)
    if lock is not None:
        (folder / "lock").write_text(lock)
    with pytest.raises(ForeignFolder, match="--state-dir"), state_directory(folder):
        pytest.fail("the session began")
    assert (folder / "config" / "mine.yaml").read_text() == "precious"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert (folder / "lock").exists() == (lock is not None)


def test_a_file_is_no_state_directory(tmp_path: Path) -> None:
    """A path that is a file is refused with advice, not with a traceback."""
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ForeignFolder, match="is not a folder"), state_directory(path):
        pytest.fail("the session began")


@pytest.mark.parametrize("lock", ["", "4711\n"])
def test_what_an_earlier_session_left_is_taken_over(tmp_path: Path, lock: str) -> None:
    """A state directory is emptied for the next session, also when a crash left nothing but a lock."""
    (tmp_path / "lock").write_text(lock)
    if lock:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "old.log").write_text("old")
    with state_directory(tmp_path) as folder:
        assert list((folder / "logs").iterdir()) == []


def test_credentials_come_from_the_environment(tmp_path: Path) -> None:
    """A Secret's key is a variable; one that is not set is named, and leaves no file."""
    assert variable_of("openai", "api-key") == "OPENAI_API_KEY"
    wanted = {"default.a": ("default", "openai", "api-key"), "default.b": ("default", "other", "token")}
    missing = write_credentials(tmp_path, wanted, {"OPENAI_API_KEY": "secret"})
    assert missing == {"default.b": "OTHER_TOKEN"}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"default.a": "secret"}
    write_credentials(tmp_path, {}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_refused_with_advice() -> None:
    """The message names the port and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} .* --port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_free_ports_differ() -> None:
    """Ports that are asked for together are never the same."""
    assert len(set(free_ports(20))) == 20


def test_rests_grow_and_stay_bounded() -> None:
    """Every further crash waits at least as long as the one before, and never longer than half a minute."""
    rests = [rest_seconds(crashes) for crashes in range(1, 2000)]
    assert rests[0] == 0.5
    assert rests == sorted(rests)
    assert rests[-1] == 30.0
