"""The agents that people use, each as the real program before a gateway whose engine follows a script.

What is looked at is the disk, what the agent says at its end, and what reached the engine.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.agent_engine import (
    TOO_LONG,
    TOO_MANY,
    AgentEngine,
    Cut,
    Say,
    Use,
    agent_engine,
    pictures_of,
    results_of,
)
from support.agents import (
    CLAUDE,
    CODEX,
    CODEX_PATCH,
    OPENCODE_CHAT,
    OPENCODE_MESSAGES,
    OPENCODE_RESPONSES,
    PI_CHAT,
    PI_MESSAGES,
    PI_RESPONSES,
    Agent,
    Place,
    Ran,
)
from support.gateway import entry
from support.gateway_process import gateway_process
from support.pictures import picture

END = "Everything that you asked for has been done by 4711."
PROMPT = "Do what has to be done here, and say so at the end."


@dataclass
class World:
    """A gateway and the engine behind it."""

    engine: AgentEngine
    gateway: str
    folder: Path

    def run(self, agent: Agent, *steps: Any, last: Any = None) -> tuple[Ran, Place]:
        """Run an agent in a place of its own on a script that ends with the words of success."""
        number = len(list(self.folder.iterdir()))
        folder = self.folder / f"{number}"
        folder.mkdir()
        place = Place(folder / "home", folder / "work", self.gateway)
        place.work.mkdir()
        (place.work / "present.txt").write_text("the word is heliotrope\n")
        (place.work / "change.txt").write_text("before\n")
        (place.work / "red.png").write_bytes(picture())
        self.engine.main_tool = agent.main_tool
        scripted = [step(place.work) if callable(step) else step for step in steps]
        self.engine.follow(*scripted, last=last or Say(END))
        return agent.run(place, PROMPT), place


def world(folder: Path) -> Iterator[World]:
    """Run a gateway with one model under two names."""
    with agent_engine() as engine:
        models = [entry("coder", engine.url, upstreamName="engine", aliases=("gpt-5.5",), contextWindow=200_000)]
        (folder / "gateway").mkdir()
        (folder / "runs").mkdir()
        with gateway_process(folder / "gateway", models) as gateway:
            yield World(engine, gateway.url, folder / "runs")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which nothing fails."""
    yield from world(tmp_path_factory.mktemp("agents"))


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[World]:
    """A world of a test's own, whose engine fails."""
    yield from world(tmp_path)


@dataclass
class Session:
    """What one run with every tool came to."""

    ran: Ran
    work: Path
    asked: list[dict[str, Any]]


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    """What has been run so far, by agent."""
    return {}


def session(agent: Agent, world: World, sessions: dict[str, Session]) -> Session:
    """Run an agent through all of its tools, once for all tests of it."""
    if agent.name not in sessions:
        steps = []
        if agent.bash:
            shell = agent.bash
            steps.append(lambda work: Use((shell(f"printf shelled > {work}/shelled.txt"),)))
        if agent.write:
            write = agent.write
            steps.append(lambda work: Use((write(work / "written.txt", "written"),)))
        if agent.read:
            read = agent.read
            steps.append(lambda work: Use((read(work / "present.txt"),)))
            steps.append(lambda work: Use((read(work / "change.txt"),)))
        if agent.edit:
            edit = agent.edit
            steps.append(lambda work: Use((edit(work / "change.txt", "before", "behind"),)))
        if agent.bash:
            steps.append(lambda work: Use(tuple(shell(f"printf {n} > {work}/{n}.txt") for n in ("one", "two"))))
        ran, place = world.run(agent, *steps)
        sessions[agent.name] = Session(ran, place.work, list(world.engine.asked))
    return sessions[agent.name]


def cases(does: str, *agents: Agent) -> list[Any]:
    """Give agents as parameters, each with its mark."""
    mark = pytest.mark.compatibility
    return [
        pytest.param(agent, id=agent.name, marks=mark(table="agents", row=agent.name, package=agent.package, does=does))
        for agent in agents
    ]


AGENTS = (
    CLAUDE, CODEX, CODEX_PATCH,
    OPENCODE_CHAT, OPENCODE_RESPONSES, OPENCODE_MESSAGES,
    PI_CHAT, PI_RESPONSES, PI_MESSAGES,
)  # fmt: skip


@pytest.mark.parametrize("agent", cases("plain answer", *AGENTS))
def test_says_what_the_model_says(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """The model's last words are what the agent says, and it ends well."""
    ran = session(agent, shared, sessions).ran
    assert END in " ".join(ran.out.split()), ran.out
    assert ran.code == 0, ran.out


@pytest.mark.parametrize("agent", cases("shell", *(agent for agent in AGENTS if agent.bash)))
def test_runs_a_command(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """A command of the model is run."""
    done = session(agent, shared, sessions)
    assert (done.work / "shelled.txt").exists(), done.ran.out
    assert (done.work / "shelled.txt").read_text() == "shelled"


@pytest.mark.parametrize("agent", cases("write", *(agent for agent in AGENTS if agent.write)))
def test_writes_a_file(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """A file that the model writes is on the disk."""
    done = session(agent, shared, sessions)
    assert (done.work / "written.txt").exists(), done.ran.out
    assert (done.work / "written.txt").read_text().strip() == "written"


@pytest.mark.parametrize("agent", cases("read", *(agent for agent in AGENTS if agent.read)))
def test_reads_a_file(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """What stands in a file reaches the model as the result of its call."""
    done = session(agent, shared, sessions)
    assert "heliotrope" in results_of(done.asked[-1]), done.ran.out


@pytest.mark.parametrize("agent", cases("edit", *(agent for agent in AGENTS if agent.edit)))
def test_edits_a_file(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """A change of a file is on the disk."""
    done = session(agent, shared, sessions)
    assert (done.work / "change.txt").read_text() == "behind\n", done.ran.out


@pytest.mark.parametrize("agent", cases("parallel calls", *(agent for agent in AGENTS if agent.bash)))
def test_calls_in_parallel(agent: Agent, shared: World, sessions: dict[str, Session]) -> None:
    """Two calls of one answer are both made, and both results come back beside each other."""
    done = session(agent, shared, sessions)
    assert [(done.work / f"{name}.txt").read_text() for name in ("one", "two")] == ["one", "two"]
    assert [message["role"] for message in done.asked[-1]["messages"][-3:]] == ["assistant", "tool", "tool"]


@pytest.mark.parametrize("agent", cases("image", *(agent for agent in AGENTS if agent.look)))
def test_looks_at_a_picture(agent: Agent, shared: World) -> None:
    """A picture that the model asks for reaches it as a picture, and the session goes on."""
    look = agent.look
    assert look is not None
    ran, _ = shared.run(agent, lambda work: Use((look(work / "red.png"),)))
    assert END in " ".join(ran.out.split()), ran.out
    urls = pictures_of(shared.engine.asked[-1])
    assert len(urls) == 1
    assert urls[0].startswith("data:image/")
    assert base64.b64decode(urls[0].partition("base64,")[2], validate=True)


@pytest.mark.parametrize("agent", cases("429", *AGENTS))
def test_busy_engine(agent: Agent, failing: World) -> None:
    """An engine that is busy once is asked again, and the agent comes to its end."""
    ran, _ = failing.run(agent, TOO_MANY)
    assert END in " ".join(ran.out.split()), ran.out


@pytest.mark.parametrize("agent", cases("cut stream", *AGENTS))
def test_cut_stream(agent: Agent, failing: World) -> None:
    """A stream that breaks is not taken for an answer: the agent asks again, or says what has happened and fails."""
    ran, _ = failing.run(agent, Cut())
    if END in " ".join(ran.out.split()):
        assert len(failing.engine.asked) == 2
    else:
        assert "broke off before its answer was complete" in ran.out
        assert ran.code != 0


@pytest.mark.parametrize(
    "agent", cases("prompt too long", *(agent for agent in AGENTS if agent.binary in {"claude", "codex"}))
)
def test_prompt_too_long(agent: Agent, failing: World) -> None:
    """The agent says that the prompt is too long, and does not ask for ever.

    Not pi, which then ends without a word, nor opencode, which summarises and never ends.
    """
    ran, _ = failing.run(agent, last=TOO_LONG)
    assert any(words in ran.out.lower() for words in ("too long", "context")), ran.out
    assert len(failing.engine.asked) < 30
