"""`capstan keys`: what it does, and what it shows."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.keys import KEY_PREFIX
from capstan_operator.cli import keys
from capstan_operator.cli.cluster_keys import ClusterKeys
from capstan_operator.cli.main import main
from capstan_operator.desired.issued import Issued, Terms
from capstan_operator.kube.errors import Forbidden
from capstan_operator.local.errors import NoSuchKey
from capstan_operator.local.key_file import LocalKeys
from support.memorykube import MemoryKube


class Terminal:
    """The command on one state directory, and what it has printed."""

    def __init__(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._state = state
        self._capsys = capsys
        self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run one action; give its standard output."""
        assert main(["keys", *words, "--state-dir", str(self._state)]) == code
        out, self.err = self._capsys.readouterr()
        return out

    def listed(self) -> list[dict[str, Any]]:
        """Give what `list` says."""
        found: list[dict[str, Any]] = json.loads(self("list", "-o", "json"))
        return found


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Give a state directory of its own."""
    (tmp_path / "state").mkdir()
    return Terminal(tmp_path / "state", capsys)


def test_a_new_key_is_shown_once_and_alone(terminal: Terminal) -> None:
    """A script takes it from the standard output; what is said to people is beside it; `list` never has it."""
    key = terminal("create", "--user", "alice", "--team", "red", "--models", "qwen-*").strip()
    assert key.startswith(KEY_PREFIX)
    assert key not in terminal.err
    assert "It is shown this once" in terminal.err
    (found,) = terminal.listed()
    assert (found["user"], found["team"], found["models"], found["state"]) == ("alice", "red", ["qwen-*"], "Valid")
    assert found["name"].startswith("alice-")
    table = terminal("list")
    assert key not in table + json.dumps(found)
    assert table.splitlines()[0].split()[:3] == ["NAME", "USER", "TEAM"]


def test_a_rotated_key_is_valid_beside_the_new_one_for_the_grace(terminal: Terminal) -> None:
    """Two keys of one user, with the same rights."""
    terminal("create", "--name", "old", "--user", "alice", "--tier", "gold", "--models", "a,b")
    made = json.loads(terminal("rotate", "old", "--grace", "2h", "-o", "json"))
    assert made["replaces"]["name"] == "old"
    assert made["key"].startswith(KEY_PREFIX)
    old, new = sorted(terminal.listed(), key=lambda one: one["name"] != "old")
    assert old["expires"] == made["replaces"]["expires"]
    assert new["expires"] is None
    assert (old["state"], new["state"]) == ("Valid", "Valid")
    same = ("user", "team", "tenant", "tier", "models")
    assert [old[name] for name in same] == [new[name] for name in same]


def test_a_key_that_replaces_one_with_an_end_has_an_end(terminal: Terminal) -> None:
    """It lives as long as the old one was to, unless it is said: to rotate is no way to a key for ever."""
    terminal("create", "--name", "old", "--user", "alice", "--expires", "30d")
    made = json.loads(terminal("rotate", "old", "--grace", "1h", "-o", "json"))
    old, new = sorted(terminal.listed(), key=lambda one: one["name"] != "old")
    assert new["expires"] is not None
    assert new["expires"] > old["expires"]
    assert made["expires"] == new["expires"]


def test_a_state_directory_that_is_not_there_is_said(terminal: Terminal, tmp_path: Path) -> None:
    """A typing error shows no empty list, and a key in a folder that nobody serves is told of."""
    nowhere = tmp_path / "nowhere"
    for words in (("list",), ("rotate", "a"), ("revoke", "a")):
        assert main(["keys", *words, "--state-dir", str(nowhere)]) == 1
    assert not nowhere.exists()
    assert main(["keys", "create", "--user", "a", "--state-dir", str(nowhere)]) == 0


def test_a_rotated_first_key_is_kept_where_the_first_one_was(tmp_path: Path) -> None:
    """Whoever reads the file of `capstan up`'s key has one that goes on being valid."""
    keys = LocalKeys(tmp_path)
    first = keys.first()
    assert first is not None
    assert main(["keys", "create", "--user", "a", "--name", "other", "--state-dir", str(tmp_path)]) == 0
    assert main(["keys", "rotate", "other", "--grace", "0", "--state-dir", str(tmp_path)]) == 0
    assert first.path.read_text().strip() == first.value
    assert main(["keys", "rotate", "local", "--grace", "0", "--state-dir", str(tmp_path)]) == 0
    again = keys.first()
    assert again is not None
    assert (again.is_new, again.value != first.value) == (False, True)


def test_without_a_grace_the_old_key_has_ended(terminal: Terminal) -> None:
    """And can be cleared away, which takes no other one."""
    terminal("create", "--name", "old", "--user", "alice")
    terminal("rotate", "old", "--grace", "0")
    assert sorted(one["state"] for one in terminal.listed()) == ["Expired", "Valid"]
    assert terminal("revoke", "--expired") == "revoked old\n"
    assert [one["state"] for one in terminal.listed()] == ["Valid"]


def test_a_key_that_is_a_tenant_of_its_own_is_not_rotated(terminal: Terminal) -> None:
    """The new one could not see what the old one has stored, and nobody would be told."""
    terminal("create", "--name", "old")
    assert terminal("rotate", "old", code=1) == ""
    assert "tenant of its own" in terminal.err
    assert len(terminal.listed()) == 1


def test_keys_are_revoked_by_name_and_by_user(terminal: Terminal) -> None:
    """All or none of those that are named."""
    for name, user in (("a1", "alice"), ("a2", "alice"), ("b", "bob")):
        terminal("create", "--name", name, "--user", user)
    terminal("revoke", "b", "nobody", code=1)
    assert "there is no API key 'nobody'" in terminal.err
    assert len(terminal.listed()) == 3
    assert terminal("revoke", "--user", "alice").splitlines() == ["revoked a1", "revoked a2"]
    terminal("revoke", "--user", "alice", code=1)
    assert [one["name"] for one in terminal.listed()] == ["b"]


def test_a_key_of_ones_own_can_be_brought(terminal: Terminal, tmp_path: Path) -> None:
    """From a file, because a command line is seen by others."""
    file = tmp_path / "key"
    file.write_text("my-own-key-of-many-characters\n")
    assert terminal("create", "--user", "alice", "--key-file", str(file)).strip() == "my-own-key-of-many-characters"
    file.write_text("two words")
    assert terminal("create", "--user", "bob", "--key-file", str(file), code=1) == ""
    assert "without spaces" in terminal.err
    assert "two words" not in terminal.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create", "--user", "a:b"), "no ':'"),
        (("create", "--name", "A B"), "is no name"),
        (("create", "--expires", "soon"), "is no end"),
        (("create", "--expires", "2020-01-01T00:00:00Z"), "not in the future"),
        (("create", "--key-file", "/nowhere/at/all"), "No such file"),
        (("rotate", "nobody"), "there is no API key 'nobody'"),
        (("rotate", "nobody", "--grace", "long"), "is no duration"),
        (("revoke",), "name the keys to revoke"),
        (("revoke", "nobody"), "there is no API key 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(terminal: Terminal, words: tuple[str, ...], said: str) -> None:
    """With exit code 1, and nothing changed."""
    assert terminal(*words, code=1) == ""
    assert terminal.err.startswith("error: ")
    assert said in terminal.err
    assert terminal.err.count("\n") == 1
    assert terminal.listed() == []


@pytest.mark.parametrize("option", ["name", "user", "team", "tenant", "tier", "models", "expires"])
@pytest.mark.parametrize("text", ["", " "])
def test_an_option_that_says_nothing_makes_no_key(terminal: Terminal, option: str, text: str) -> None:
    """A variable of a script that is not set must not make a key for all models, or one that never ends."""
    assert terminal("create", f"--{option}", text, code=1) == ""
    assert f"--{option} is empty" in terminal.err
    assert terminal.listed() == []


def test_a_rotation_to_an_empty_end_changes_nothing(terminal: Terminal) -> None:
    """The new key would never end."""
    terminal("create", "--name", "old", "--user", "alice", "--expires", "1d")
    assert terminal("rotate", "old", "--expires", "", code=1) == ""
    assert "--expires is empty" in terminal.err
    assert len(terminal.listed()) == 1


def test_a_new_key_is_shown_although_the_old_one_cannot_be_ended(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is valid, and would be shown never."""
    terminal("create", "--name", "old", "--user", "alice")

    async def refused(self: LocalKeys, issued: Issued, at: int) -> None:
        raise NoSuchKey("no")

    monkeypatch.setattr(LocalKeys, "expire", refused)
    assert terminal("rotate", "old", code=1).startswith(KEY_PREFIX)
    assert "error: no" in terminal.err
    assert [one["state"] for one in terminal.listed()] == ["Valid", "Valid"]


def test_a_short_key_of_ones_own_is_warned_of(terminal: Terminal, tmp_path: Path) -> None:
    """It counts; nobody else says it without a cluster."""
    file = tmp_path / "key"
    file.write_text("short")
    assert terminal("create", "--user", "alice", "--key-file", str(file)) == "short\n"
    assert "may be guessed" in terminal.err


@pytest.mark.parametrize("content", ["", "[]", "7", "{", "clusters: 7", "{current-context: a, contexts: [7]}"])
@pytest.mark.parametrize("command", [["keys", "list"], ["prices", "import", "TABLE"]])
def test_what_is_no_kubeconfig_is_said_in_one_line(
    command: list[str],
    content: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With where the keys of local mode are, which is what most who have none are looking for."""
    file, table = tmp_path / "config", tmp_path / "table.json"
    file.write_text(content)
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    table.write_text(json.dumps({"gpt": entry}))
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert main([str(table) if word == "TABLE" else word for word in command]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: no way to reach a Kubernetes API server")
    assert ("--state-dir" in last) == (command[0] == "keys")


def test_no_keys_are_said_so(terminal: Terminal) -> None:
    """With how to make one."""
    assert "capstan keys create" in terminal("list")


async def test_keys_of_a_cluster_are_secrets_with_the_label() -> None:
    """They are listed by it, end by one annotation, and are deleted only as the objects that were listed."""
    kube = MemoryKube()
    store = ClusterKeys(kube, "capstan-system")
    await store.create("a", "sk-capstan-secret", Terms(user="alice", expires=1_900_000_000))
    kube.objects["other"] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "uid": "x"}}
    (issued,) = await store.all()
    assert issued.terms == Terms(user="alice", expires=1_900_000_000)
    assert kube.full_reads == 0
    await store.expire(issued, 1_850_000_000)
    (ended,) = await store.all()
    assert ended.terms == Terms(user="alice", expires=1_850_000_000)
    assert kube.objects["a"]["data"]
    await store.delete(ended)
    assert kube.objects.keys() == {"other"}


async def test_no_other_secret_of_the_name_is_deleted() -> None:
    """What is revoked is what was listed: the uid is a precondition."""
    deleted = []

    class Kube(MemoryKube):
        async def delete(self, kind: Any, name: str, *, namespace: str | None = None, uid: str | None = None) -> None:
            deleted.append((name, uid))

    await ClusterKeys(Kube(), "capstan-system").delete(Issued("a", Terms(), uid="listed"))
    assert deleted == [("a", "listed")]


@pytest.mark.parametrize("command", [["keys", "list"], ["prices", "import", "TABLE"]])
def test_the_context_of_the_kubeconfig_is_said(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every command that speaks to a cluster in the same way."""
    file, table = tmp_path / "config", tmp_path / "table.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": []}))
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
    table.write_text(json.dumps({"gpt": entry}))
    monkeypatch.setenv("KUBECONFIG", str(file))
    words = [str(table) if word == "TABLE" else word for word in command]
    assert main([*words, "--context", "of-another-cluster"]) == 1
    assert "of-another-cluster" in capsys.readouterr().err


async def test_a_secret_of_the_name_is_not_written_over() -> None:
    """Whatever it is."""
    kube = MemoryKube()
    store = ClusterKeys(kube, "capstan-system")
    kube.objects["a"] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    with pytest.raises(keys.KeyFault):
        await store.create("a", "sk-capstan-secret", Terms())
    assert kube.writes == []


def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not with the words of the API server, which say it of an account."""

    async def refused(arguments: argparse.Namespace) -> int:
        raise Forbidden(
            'secrets is forbidden: User "me" cannot list resource "secrets" in API group "" in the namespace "x"'
        )

    monkeypatch.setattr(keys, "_run", refused)
    assert keys.run(argparse.Namespace()) == 1
    assert "you may not list secrets in the namespace 'x'" in capsys.readouterr().err
