"""`capstan up` as a user runs it: a process of its own on the quickstart, asked with the official client."""

import http.client
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from capstan_contract.config import RouterBackend, RouterMember, StaticBackend
from capstan_contract.evaluation import SCORES_PATH, read_scores
from capstan_contract.queue.names import queue_prefix
from capstan_contract.queue.wire import Packing
from capstan_contract.reading import join_config
from capstan_contract.samples import read_sample, samples_key
from capstan_gateway.pipeline.sampling.chance import Share
from support.kv_events import listening
from support.needs import ROOT, need_binary
from support.ports import free_port
from support.redis_server import redis_server
from support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
QUICKSTART = ROOT / "examples" / "quickstart"


class Up:
    """A running `capstan up`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, state: Path, output: Path, port: int) -> None:
        self.process = process
        self.folder = folder
        self.state = state
        self._output = output
        self.url = f"http://127.0.0.1:{port}"

    @property
    def key(self) -> str:
        """The key that its first start has made; a made-up one before there is one."""
        try:
            return (self.state / "keys" / "api-key").read_text().strip()
        except FileNotFoundError:
            return "none"

    @property
    def output(self) -> str:
        """Everything that it has printed."""
        return self._output.read_text()

    def wait_for(self, pattern: str, *, seconds: float = 120.0) -> str:
        """Wait until it has printed something; give that."""
        found = wait_until(lambda: re.search(pattern, self.output), seconds=seconds, what=f"{pattern!r} in the output")
        assert found is not None
        return found[0]

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a manifest in place, as an editor does."""
        text = (self.folder / name).read_text()
        assert old in text
        fresh = self.folder / f"{name}.tmp"
        fresh.write_text(text.replace(old, new))
        fresh.rename(self.folder / name)

    def engine_of(self, model: str) -> int:
        """Give the process id of a model's engine, once there is one alone: one that was replaced may still end."""

        def alone() -> list[int]:
            engines = [pid for pid, command in processes_of(self.state) if f"--model {model} " in command]
            return engines if len(engines) == 1 else []

        [pid] = wait_until(alone, what=f"one engine of '{model}' alone")
        return pid


def processes_of(state: Path) -> list[tuple[int, str]]:
    """Give (process id, command line) of every child of a session: each has the state directory in its environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has just ended
        if f"CAPSTAN_TEST_STATE={state}\0".encode() in environment and "capstan_" in command:
            found.append((int(folder.name), command))
    return found


@contextmanager
def running(tmp: Path, *arguments: str, manifests: Path = QUICKSTART, output: int | None = None) -> Iterator[Up]:
    """Run `capstan up` on a copy of some manifests; end it, and everything that it may have left."""
    folder, state, file = tmp / "manifests", tmp / "state", tmp / "output"
    shutil.copytree(manifests, folder)
    port = free_port()
    command = [sys.executable, "-m", "capstan_operator.cli.main", "up", "-f", str(folder), "--port", str(port)]
    with file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--state-dir", str(state), *arguments],
            stdout=log if output is None else output,
            stderr=log,
            env=os.environ | {"CAPSTAN_TEST_STATE": str(state)},
            start_new_session=True,
        )
    try:
        yield Up(process, folder, state, file, port)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            for pid, _ in processes_of(state):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One session for the tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("up")) as up:
        up.wait_for("Ctrl-C stops everything")
        yield up


@pytest.fixture
def up(session: Up, client: openai.OpenAI) -> Iterator[Up]:
    """The session, whose manifests are put back afterwards."""
    yield session
    shutil.copytree(QUICKSTART, session.folder, dirs_exist_ok=True)
    wait_until(lambda: served(client) == {"chat", "quick", "embed"}, what="the quickstart's names")
    wait_until(lambda: as_in_the_quickstart(session), what="the quickstart's engines")


@pytest.fixture
def client(session: Up) -> Iterator[openai.OpenAI]:
    """The official client, without retries: nothing is hidden."""
    with openai.OpenAI(base_url=f"{session.url}/v1", api_key=session.key, max_retries=0, timeout=60) as client:
        yield client


def as_in_the_quickstart(up: Up) -> bool:
    """Say whether there is one engine for each model, with the arguments of the quickstart."""
    engines = [command for _, command in processes_of(up.state) if " simulator " in command]
    return len(engines) == 2 and any("--ttft-ms 50 --tpot-ms 20" in command for command in engines)


def served(client: openai.OpenAI) -> set[str]:
    """Give the names that the gateway lists, beside the built-in `auto`."""
    return {model.id for model in client.models.list()} - {"auto"}


def is_served(client: openai.OpenAI, name: str) -> bool:
    """Say whether the gateway answers and lists a name."""
    try:
        return name in served(client)
    except (openai.APIConnectionError, openai.InternalServerError):  # It is not there, or has no config yet.
        return False


def answers(client: openai.OpenAI, model: str) -> bool:
    """Say whether a model answers a chat."""
    try:
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    except openai.APIStatusError:
        return False
    return bool(answer.choices[0].message.content)


def test_a_chat_is_streamed_and_says_that_it_is_simulated(up: Up, client: openai.OpenAI) -> None:
    """The quickstart answers in pieces, under the served name and its alias, and claims to be no real model."""
    for name in ("chat", "quick"):
        with client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Hello!"}], stream=True
        ) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert len(pieces) > 3
        assert "simulated" in "".join(pieces)
    assert "simulator (answers are made up)" in up.output


def test_embeddings_are_served(up: Up, client: openai.OpenAI) -> None:
    """The second model of the quickstart gives one vector per text, the same one for the same text."""
    response = client.embeddings.create(model="embed", input=["anchor", "anchor", "rope"])
    first, second, third = (item.embedding for item in response.data)
    assert first == second != third


def test_the_printed_lines_work_as_they_are(up: Up) -> None:
    """Every curl line of the presentation can be pasted into a shell."""
    need_binary("curl", "curl")
    lines = re.findall(r"^  (curl .*)$", up.output, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        done = subprocess.run(  # noqa: S602  (that is how the line is used)
            line.replace("curl ", "curl --fail --silent --show-error ", 1),
            shell=True,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "chat.completion.chunk" in done.stdout or "embedding" in done.stdout


def test_nobody_gets_in_without_the_key_that_was_printed(up: Up) -> None:
    """The first start has made and printed it, for its owner alone; everything but health asks for it."""
    assert up.output.count(f"\n  {up.key}\n") == 1
    assert stat.S_IMODE((up.state / "keys" / "api-key").stat().st_mode) == 0o600
    for key in ("none", "sk-capstan-made-up"):
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0, timeout=60) as stranger:
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
            with pytest.raises(openai.AuthenticationError):
                stranger.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}])
    pages = {"healthz": 200, "readyz": 200, "metrics": 401, "internal/config": 401, "v1/models": 401}
    assert {page: status_of(up, page) for page in pages} == pages


def test_keys_are_made_rotated_and_revoked_while_it_runs(up: Up) -> None:
    """By the command, in the state directory; the gateway knows within a moment, and nothing begins anew."""
    first = keys(up, "create", "--user", "alice", "--name", "first", "--models", "chat")
    assert admits(up, first)
    second = keys(up, "rotate", "first", "--grace", "1h")
    assert admits(up, second)
    assert admits(up, first)
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=second, max_retries=0, timeout=60) as alice:
        assert served(alice) == {"chat", "quick"}
        with pytest.raises(openai.NotFoundError):
            alice.embeddings.create(model="embed", input="x")
    keys(up, "revoke", "--user", "alice")
    wait_until(lambda: not is_let_in(up, first) and not is_let_in(up, second), what="the end of the keys")
    assert is_let_in(up, up.key)
    assert first not in keys(up, "list")


def status_of(up: Up, page: str) -> int:
    """Ask for a page without a credential."""
    connection = http.client.HTTPConnection(up.url.removeprefix("http://"), timeout=60)
    with closing(connection):
        connection.request("GET", f"/{page}")
        return connection.getresponse().status


def keys(up: Up, *words: str) -> str:
    """Run `capstan keys` beside the session; give what it printed."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "keys", *words, "--state-dir", str(up.state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def is_let_in(up: Up, key: str) -> bool:
    """Say whether a key is valid."""
    with openai.OpenAI(base_url=f"{up.url}/v1", api_key=key, max_retries=0, timeout=60) as client:
        try:
            return bool(served(client))
        except openai.AuthenticationError:
            return False


def admits(up: Up, key: str) -> bool:
    """Wait until a key is valid."""
    return bool(wait_until(lambda: is_let_in(up, key), what="the key"))


def test_a_rename_is_live_and_restarts_nothing(up: Up, client: openai.OpenAI) -> None:
    """A new served name is served soon after the save, by the same engine process, and the old name is gone."""
    before = up.engine_of("chat")
    up.edit("chat.yaml", "servedName: chat", "servedName: talk")
    wait_until(lambda: served(client) == {"talk", "quick", "embed"}, what="the new name")
    assert answers(client, "talk")
    assert not answers(client, "chat")
    assert up.engine_of("chat") == before
    up.wait_for("chat: is now served as 'talk', no longer as 'chat'")


def test_a_broken_edit_changes_nothing(up: Up, client: openai.OpenAI) -> None:
    """The fault is printed with file, line and field; what was right before is still served."""
    up.edit("chat.yaml", "contextWindow: 2048", "contextWindow: many")
    up.wait_for(r"chat\.yaml:\d+: document 1: .*`spec\.serving\.contextWindow`")
    assert answers(client, "chat")
    up.edit("chat.yaml", "contextWindow: many", "contextWindow: 2048")
    up.wait_for("manifests: are right again")


def test_a_changed_engine_replaces_the_old_one_without_a_gap(up: Up, client: openai.OpenAI) -> None:
    """The old process answers until the new one is ready, and then ends; a stream that it has begun is finished."""
    before = up.engine_of("chat")
    up.edit("chat.yaml", '"50", --tpot-ms, "20"', '"0", --tpot-ms, "30"')
    with client.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "Tell me a story"}], stream=True
    ) as stream:
        chunks = [chunk for chunk in stream if chunk.choices]
    assert chunks[-1].choices[0].finish_reason == "stop"
    while [pid for pid, _ in processes_of(up.state) if pid == before]:
        assert answers(client, "chat")
    assert up.engine_of("chat") != before
    assert answers(client, "chat")


def test_a_crashed_engine_comes_back(up: Up, client: openai.OpenAI) -> None:
    """A killed engine is started again, told with its signal, and serves."""
    before = up.engine_of("chat")
    os.kill(before, signal.SIGKILL)
    up.wait_for("chat: the simulator ended with signal 9")
    wait_until(lambda: answers(client, "chat"), what="an answer")
    assert up.engine_of("chat") != before


def test_a_new_file_and_its_removal_take_effect(up: Up, client: openai.OpenAI) -> None:
    """A model that is added is served; when its file goes it is drained and its process ends."""
    text = (up.folder / "chat.yaml").read_text()
    added = re.sub("aliases: .*", "", text).replace("name: chat", "name: extra").replace("Name: chat", "Name: extra")
    (up.folder / "extra.yaml").write_text(added)
    wait_until(lambda: "extra" in served(client), what="the new model's name")
    wait_until(lambda: answers(client, "extra"), what="the new model's answer")
    pid = up.engine_of("extra")
    (up.folder / "extra.yaml").unlink()
    wait_until(lambda: "extra" not in served(client), what="the name's end")
    wait_until(lambda: pid not in dict(processes_of(up.state)), what="the process's end")


TELLING = """
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: telling}
spec:
  model: {source: "hf://org/name"}
  engine: {type: Simulator, kvCache: {events: true}}
  replicas: 2
"""


def test_the_gateway_is_told_where_workers_tell_their_blocks(up: Up, client: openai.OpenAI) -> None:
    """Of a model with events the config names the worker of each engine, which tells; of others none."""
    (up.folder / "telling.yaml").write_text(TELLING)

    def backend_of(name: str) -> StaticBackend:
        files: dict[str, str | bytes] = {path.name: path.read_bytes() for path in (up.state / "config").iterdir()}
        entry = next(entry for entry in join_config(files).models if entry.id == f"default/{name}")
        assert entry.kvEvents is (name == "telling")
        assert isinstance(entry.backend, StaticBackend)
        return entry.backend

    wait_until(lambda: answers(client, "telling") and len(backend_of("telling").urls) == 2, what="both engines")
    backend = backend_of("telling")
    assert set(backend.workers) == set(backend.urls)
    for url in backend.workers.values():
        with listening(int(url.rpartition(":")[2])) as reader:
            assert reader.head.block_tokens == 16
    assert not backend_of("chat").workers
    (up.folder / "telling.yaml").unlink()
    wait_until(lambda: "telling" not in served(client), what="the name's end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path: Path, number: signal.Signals) -> None:
    """However it is ended, no engine and no gateway stays; when asked politely the exit code is 0."""
    with running(tmp_path) as up:
        up.wait_for("Ctrl-C stops everything")
        assert len(processes_of(up.state)) == 4
        up.process.send_signal(number)
        code = up.process.wait(60)
        wait_until(lambda: processes_of(up.state) == [], what="the end of every child")
    assert code == (-number if number is signal.SIGKILL else 0)


def test_it_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    """With its output's reader gone (`capstan up | head`) it still serves, follows edits, and ends when asked."""
    with running(tmp_path, output=subprocess.PIPE) as up:
        assert up.process.stdout is not None
        up.process.stdout.readline()
        up.process.stdout.close()
        wait_until(lambda: up.key != "none", what="the key")
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
            wait_until(lambda: is_served(client, "chat"), what="the gateway")
            up.edit("chat.yaml", "servedName: chat", "servedName: talk")
            wait_until(lambda: is_served(client, "talk"), what="the new name")
        up.process.terminate()
        assert up.process.wait(60) == 0


def test_the_key_outlives_the_session(tmp_path: Path) -> None:
    """The next start makes no other one, and prints where it is instead."""
    with running(tmp_path) as up:
        up.wait_for("Ctrl-C stops everything")
        key = up.key
    shutil.rmtree(tmp_path / "manifests")
    with running(tmp_path) as up:
        up.wait_for("Ctrl-C stops everything")
        assert up.key == key
        assert is_let_in(up, key)
        assert f"Yours is in {up.state / 'keys' / 'api-key'}" in up.output
        assert f"\n  {key}\n" not in up.output


def test_everybody_is_served_where_that_is_said(tmp_path: Path) -> None:
    """With --insecure-no-auth no key is asked for, and none is in the lines to paste."""
    with running(tmp_path, "--insecure-no-auth") as up:
        up.wait_for("Ctrl-C stops everything")
        assert is_let_in(up, "anything")
        assert "Authorization" not in up.output


def test_a_taken_port_is_told_before_anything_starts(tmp_path: Path) -> None:
    """The message names the port and the option, and no process has been started for nothing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, "--port", str(port)) as up:
            assert up.process.wait(60) == 1
            assert f"error: port {port} on 127.0.0.1 is in use" in up.output
            assert "--port" in up.output
            assert "starting" not in up.output


def test_an_engine_that_cannot_run_here_leaves_the_others_alone(tmp_path: Path) -> None:
    """A model on TGI is told not to run here, and answers 503; the simulated one is served."""
    manifests = tmp_path / "mixed"
    shutil.copytree(QUICKSTART, manifests)
    text = (manifests / "embed.yaml").read_text()
    (manifests / "embed.yaml").write_text(text.replace("type: Simulator", "type: TGI").replace("task: embed", ""))
    with running(tmp_path, manifests=manifests) as up:
        up.wait_for("Ctrl-C stops everything")
        assert "embed: has no engine: engine TGI needs a cluster" in up.output
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
            assert answers(client, "chat")


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    """With nothing to serve it ends at once and says what it looked at."""
    manifests = tmp_path / "empty"
    manifests.mkdir()
    with running(tmp_path, manifests=manifests) as up:
        assert up.process.wait(60) == 1
        assert "has no LLMModel that can be served" in up.output


def test_an_engine_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    """The end of the engine's log is printed once, and the presentation says that the model is not ready."""
    manifests = tmp_path / "wrong"
    shutil.copytree(QUICKSTART, manifests)
    text = (manifests / "chat.yaml").read_text()
    (manifests / "chat.yaml").write_text(text.replace("--ttft-ms", "--no-such-option"))
    with running(tmp_path, manifests=manifests) as up:
        up.wait_for("Ctrl-C stops everything")
        assert re.search(r"chat: the simulator ended with exit code \d; starting it again in 0.5 s", up.output)
        assert "--no-such-option" in up.wait_for("the end of its log:\n(    .*\n)+")
        assert re.search(r"chat +chat, quick +simulator .* not ready", up.output)


def test_clients_of_an_engine_that_keeps_ending_are_told(tmp_path: Path) -> None:
    """They do not wait until their deadlines for what does not come up."""
    manifests = tmp_path / "wrong"
    shutil.copytree(QUICKSTART, manifests)
    text = (manifests / "chat.yaml").read_text()
    (manifests / "chat.yaml").write_text(text.replace("--ttft-ms", "--no-such-option"))
    with running(tmp_path, "--insecure-no-auth", manifests=manifests) as up:
        up.wait_for("starting it again in 2 s")  # that is the third time
        with (
            openai.OpenAI(base_url=f"{up.url}/v1", api_key="any", max_retries=0, timeout=120) as client,
            pytest.raises(openai.InternalServerError) as told,
        ):
            client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}])
        assert (told.value.status_code, told.value.code) == (503, "model_start_failed")


VIRTUAL = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: front}
spec:
  router: {members: [{name: chat}, {name: absent}]}
"""


def test_virtual_models_reach_the_gateway(tmp_path: Path) -> None:
    """A router is in the table and in the gateway's config, with the members that are there; it starts no engine."""
    manifests = tmp_path / "virtual"
    shutil.copytree(QUICKSTART, manifests)
    (manifests / "front.yaml").write_text(VIRTUAL)
    with running(tmp_path, manifests=manifests) as up:
        up.wait_for("Ctrl-C stops everything")
        assert re.search(r"front +front +router: chat +ready", up.output)
        assert "front: is served with less than it names: `spec.router.members[1].name` names the LLMModel" in up.output
        assert sorted(re.findall(r"(\S+): starting", up.output)) == ["chat", "embed"]
        files: dict[str, str | bytes] = {path.name: path.read_bytes() for path in (up.state / "config").iterdir()}
        entries = {entry.id: entry for entry in join_config(files).models}
        assert entries["default/front"].backend == RouterBackend(members=(RouterMember(model="default/chat"),))


def test_the_examples_of_routing_work(tmp_path: Path) -> None:
    """The canary and the cascade of the examples route their requests, and so does `auto`, on simulated engines."""
    manifests = tmp_path / "routing"
    manifests.mkdir()
    for name in ("router-canary.yaml", "cascade-checks.yaml"):
        shutil.copy(ROOT / "examples" / name, manifests)
    with running(tmp_path, "--engine", "Simulator", manifests=manifests) as up:
        up.wait_for("Ctrl-C stops everything")
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
            users = {user: route(client, "support-chat", user=user)[0] for user in map(str, range(25))}
            assert set(users.values()) == {"support-chat-v1", "support-chat-v2"}
            assert {user: route(client, "support-chat", user=user)[0] for user in users} == users
            assert route(client, "thrifty") == ("thrifty-small", "cascade; accepted=1; score=1.00")
            assert route(client, "auto") == ("thrifty-small", "cheapest")
            tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
            assert route(client, "auto", tools=tools)[0] in {"support-chat-v1", "support-chat-v2"}


def test_the_example_of_a_cache_works(tmp_path: Path) -> None:
    """What was answered is given again, until `capstan cache` says that it is not to be."""
    manifests = tmp_path / "cached"
    manifests.mkdir()
    shutil.copy(ROOT / "examples" / "cache.yaml", manifests)
    with running(tmp_path, "--engine", "Simulator", manifests=manifests) as up:
        up.wait_for("Ctrl-C stops everything")
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
            heads = [in_cache(client, temperature=0.2) for _ in range(2)]
            assert [word for word, _ in heads] == ["miss", "hit-memory"]
            assert in_cache(client, temperature=0.9)[0] == "bypass"
            assert re.search(r"default/faq +Enforce +1 +1 +50 +1", cache(up, "stats"))
            assert "model: default/faq" in cache(up, "inspect", heads[0][1])
            assert cache(up, "purge", "--entry", heads[0][1]).startswith("purged on 1 gateway replica")
            assert in_cache(client, temperature=0.2)[0] == "miss"


def in_cache(client: openai.OpenAI, **fields: Any) -> tuple[str, str]:
    """Ask once; give what the cache had to do with it, and the key of the answer."""
    raw = client.chat.completions.with_raw_response.create(
        model="faq", messages=[{"role": "user", "content": "What is 17 + 25?"}], **fields
    )
    return raw.headers["x-cache"], raw.headers.get("x-cache-key", "")


def cache(up: Up, *words: str) -> str:
    """Run `capstan cache`; give what it printed."""
    command = [sys.executable, "-m", "capstan_operator.cli.main", "cache", *words, "--state-dir", str(up.state)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def route(client: openai.OpenAI, model: str, **fields: Any) -> tuple[str, str]:
    """Ask once; give the model that answered and how it was chosen."""
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "Hello"}], **fields
    )
    return raw.headers["x-capstan-model"], raw.headers["x-capstan-route"]


QUEUED = """
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: queued}
spec:
  engine: {type: Simulator, args: [--settle-seconds=0.1]}
  model: {source: "hf://org/name"}
  dispatch: Queue
"""


@pytest.mark.redis
def test_requests_wait_in_the_redis_that_is_named(tmp_path: Path) -> None:
    """With --redis-url the models' workers take from their queues what the gateway puts there; its password is in no
    command line of theirs."""
    manifests = tmp_path / "queued"
    manifests.mkdir()
    (manifests / "queued.yaml").write_text(QUEUED)
    with (
        redis_server(tmp_path, password="hunter2") as server,
        running(tmp_path, "--redis-url", server.url, manifests=manifests) as up,
    ):
        up.wait_for("queued: ready")

        def answered() -> str | None:
            with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
                try:
                    asked = client.chat.completions.create(
                        model="queued", messages=[{"role": "user", "content": "hello"}], max_tokens=5
                    )
                except openai.APIError:
                    return None
            return asked.choices[0].message.content

        assert wait_until(answered, every=0.3, what="an answer")
        with server.client() as client:
            wait_until(lambda: client.zcard(f"{queue_prefix('default/queued')}workers") == 1, what="the worker")
        children = [command for pid, command in processes_of(up.state) if pid != up.process.pid]
        assert len(children) == 2
        assert not any("hunter2" in command for command in children)


@pytest.mark.redis
def test_answers_of_the_example_are_sampled_and_judged(tmp_path: Path) -> None:
    """examples/evaluation/production.yaml as it stands: one in twenty answers is stored without what its policy
    redacts, a scorer beside it asks the judge, and says how the model stands."""
    manifests = tmp_path / "evaluated"
    manifests.mkdir()
    shutil.copy(ROOT / "examples" / "evaluation" / "production.yaml", manifests)
    sampled = next(f"request-{n}" for n in range(1000) if Share(0.05).takes(f"request-{n}".encode(), 0.0))
    model_id = "default/evaluated"
    port = free_port()
    with (
        redis_server(tmp_path) as server,
        running(tmp_path, "--redis-url", server.url, "--engine", "Simulator", manifests=manifests) as up,
        server.client() as redis,
    ):
        up.wait_for("Ctrl-C stops everything", seconds=120.0)
        with openai.OpenAI(base_url=f"{up.url}/v1", api_key=up.key, max_retries=0, timeout=60) as client:
            client.chat.completions.create(
                model="evaluated", messages=[{"role": "user", "content": "Mail ada@example.org"}], max_tokens=5,
                extra_headers={"x-request-id": sampled},
            )  # fmt: skip
        wait_until(lambda: redis.xlen(samples_key(model_id)) == 1, what="a sample")
        ((_, fields),) = redis.xrange(samples_key(model_id))
        sample = read_sample(model_id, fields[b"s"], Packing())
        assert (sample.id, sample.prompt[-1].text) == (sampled, "Mail [EMAIL_1]")
        command = [
            sys.executable, "-m", "capstan_worker", "score", "--redis-url", server.url, "--gateway-url", up.url,
            "--gateway-key", up.key, "--worker-port", str(port),
        ]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as scorer:
            try:

                def judged() -> bool:
                    try:
                        page = httpx2.get(f"http://127.0.0.1:{port}{SCORES_PATH}", timeout=60)
                    except httpx2.HTTPError:
                        return False
                    scores = read_scores(page.content).models.get(model_id, ()) if page.status_code == 200 else ()
                    return {one.criterion for one in scores} == {"helpful", "polite"}

                wait_until(judged, what="judgements")
                wait_until(lambda: redis.xlen(samples_key(model_id)) == 0, what="the end of the sample")
            finally:
                scorer.terminate()
