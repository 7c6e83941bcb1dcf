"""The agents that people use, each as the real program before a gateway whose engine follows a script.

What is looked at is the disk, what the agent says at its end, and what reached the engine.
"""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.agent_engine import (
    BESIDE,
    CUT_WORDS,
    TOO_LONG,
    TOO_MANY,
    AgentEngine,
    Call,
    Cut,
    Say,
    Step,
    Use,
    agent_engine,
    pictures_of,
    results_of,
    tools_of,
)
from support.agents.aider import AIDER_CHAT, AIDER_MESSAGES
from support.agents.claude import CLAUDE, CLAUDE_MCP
from support.agents.cline import CLINE, CLINE_MCP
from support.agents.codex import CODEX, CODEX_MCP, CODEX_PATCH
from support.agents.continuedev import CN, CN_MCP
from support.agents.opencode import OPENCODE_CHAT, OPENCODE_MCP, OPENCODE_MESSAGES, OPENCODE_RESPONSES
from support.agents.pi import PI_CHAT, PI_MESSAGES, PI_RESPONSES
from support.agents.program import Agent, Place, Ran, Room
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.mcp_server import MEANINGS
from support.pictures import picture

END = "Everything that you asked for has been done by 4711."
PROMPT = "Do what has to be done here, and say so at the end."
AGENTS = (
    CLAUDE, CODEX, CODEX_PATCH,
    OPENCODE_CHAT, OPENCODE_RESPONSES, OPENCODE_MESSAGES,
    PI_CHAT, PI_RESPONSES, PI_MESSAGES,
    AIDER_CHAT, AIDER_MESSAGES, CN, CLINE,
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway for all tests; each gives it an engine of its own, so that no failure is anybody else's."""
    with gateway_process(tmp_path_factory.mktemp("gateway"), []) as running:
        yield running


@dataclass
class World:
    """A gateway, the engine behind it, and a folder for an agent."""

    engine: AgentEngine
    place: Place

    def run(self, agent: Agent, *steps: Step, last: Step | None = None) -> Ran:
        """Run an agent on a script that ends with the words of success."""
        self.engine.main = agent.main
        self.engine.follow(*steps, last=last or Say(END))
        return agent.run(self.place, PROMPT)


@pytest.fixture
def world(gateway: GatewayProcess, tmp_path: Path) -> Iterator[World]:
    """A world with one model under two names, and a folder with two texts and a picture."""
    with agent_engine() as engine:
        gateway.configure(
            [entry("coder", engine.url, upstreamName="engine", aliases=("gpt-5.5",), contextWindow=200_000)]
        )
        place = Place(tmp_path / "home", tmp_path / "work", gateway.url)
        place.work.mkdir()
        (place.work / "present.txt").write_text("the word is heliotrope\n")
        (place.work / "change.txt").write_text("before\n")
        (place.work / "red.png").write_bytes(picture())
        yield World(engine, place)


@dataclass
class Session:
    """What one run with everything that the agent can do came to."""

    ran: Ran
    work: Path
    asked: list[dict[str, Any]]


@pytest.fixture(scope="module")
def sessions() -> dict[str, Session]:
    """What has been run so far, by agent."""
    return {}


def session(agent: Agent, world: World, sessions: dict[str, Session]) -> Session:
    """Run an agent through everything that it can do, once for all tests of it."""
    if agent.name not in sessions:
        work = world.place.work
        steps, last = script(agent, work) if agent.has_tools else text_script(agent, work)
        sessions[agent.name] = Session(world.run(agent, *steps, last=last), work, world.engine.asked)
    return sessions[agent.name]


def script(agent: Agent, work: Path) -> tuple[list[Step], Step]:
    """Give the calls of all tools, one an answer and then two in one, and the end."""
    made = []
    if agent.bash:
        made.append(agent.bash(f"printf shelled > {work}/shelled.txt"))
    if agent.write:
        made.append(agent.write(work / "written.txt", "written"))
    if agent.read:
        made += [agent.read(work / name) for name in ("present.txt", "change.txt")]
    if agent.edit:
        made.append(agent.edit(work / "change.txt", "before", "behind"))
    steps: list[Step] = [Use((call,)) for call in made if isinstance(call, Call)]
    if agent.bash:
        both = [agent.bash(f"printf {name} > {work}/{name}.txt") for name in ("one", "two")]
        steps.append(Use(tuple(call for call in both if isinstance(call, Call))))
    if agent.look:
        made = [agent.look(work / "red.png")]
        steps += [Use((call,)) for call in made if isinstance(call, Call)]
    return steps, Say(END)


def text_script(agent: Agent, work: Path) -> tuple[list[Step], Step]:
    """Give the same to an agent without tools: what it has to show, then all changes and the end in one answer."""
    shown = [agent.read and agent.read(work / "present.txt"), agent.look and agent.look(work / "red.png")]
    changed = [
        agent.write and agent.write(work / "written.txt", "written"),
        agent.edit and agent.edit(work / "change.txt", "before", "behind"),
    ]
    first, last = ("\n".join(said.text for said in made if isinstance(said, Say)) for made in (shown, changed))
    return [Say(first)], Say(f"{last}\n{END}")


def cases(does: str, *agents: Agent) -> list[Any]:
    """Give agents as parameters, each with its mark."""
    mark = pytest.mark.compatibility
    return [
        pytest.param(agent, id=agent.name, marks=mark(table="agents", row=agent.name, package=agent.package, does=does))
        for agent in agents
    ]


@pytest.mark.parametrize("agent", cases("plain answer", *AGENTS))
def test_says_what_the_model_says(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """The model's last words are what the agent says, and it ends well."""
    ran = session(agent, world, sessions).ran
    assert END in ran.said, ran.out
    assert ran.code == 0, ran.out


@pytest.mark.parametrize("agent", cases("shell", *(agent for agent in AGENTS if agent.bash)))
def test_runs_a_command(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """A command of the model is run."""
    done = session(agent, world, sessions)
    assert (done.work / "shelled.txt").exists(), done.ran.out
    assert (done.work / "shelled.txt").read_text() == "shelled"


@pytest.mark.parametrize("agent", cases("write", *(agent for agent in AGENTS if agent.write)))
def test_writes_a_file(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """A file that the model writes is on the disk."""
    done = session(agent, world, sessions)
    assert (done.work / "written.txt").exists(), done.ran.out
    assert (done.work / "written.txt").read_text().strip() == "written"


@pytest.mark.parametrize("agent", cases("read", *(agent for agent in AGENTS if agent.read)))
def test_reads_a_file(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """What stands in a file reaches the model, as the result of its call where it has tools, once it has asked."""
    done = session(agent, world, sessions)
    assert "heliotrope" not in json.dumps(done.asked[0])
    shown = results_of(done.asked[-1]) if agent.has_tools else json.dumps(done.asked[-1])
    assert "heliotrope" in shown, done.ran.out


@pytest.mark.parametrize("agent", cases("edit", *(agent for agent in AGENTS if agent.edit)))
def test_edits_a_file(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """A change of a file is on the disk."""
    done = session(agent, world, sessions)
    assert (done.work / "change.txt").read_text() == "behind\n", done.ran.out


@pytest.mark.parametrize("agent", cases("parallel calls", *(agent for agent in AGENTS if agent.bash)))
def test_calls_in_parallel(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """Two calls of one answer are both made, and both results come back beside each other, as those of the calls."""
    done = session(agent, world, sessions)
    assert [(done.work / f"{name}.txt").read_text() for name in ("one", "two")] == ["one", "two"]
    messages = done.asked[-1]["messages"]
    (at,) = [at for at, message in enumerate(messages) if len(message.get("tool_calls") or ()) == 2]
    assert [message["role"] for message in messages[at + 1 : at + 3]] == ["tool", "tool"]
    called = [call["id"] for call in messages[at]["tool_calls"]]
    assert [message["tool_call_id"] for message in messages[at + 1 : at + 3]] == called


@pytest.mark.parametrize("agent", cases("image", *(agent for agent in AGENTS if agent.look)))
def test_looks_at_a_picture(agent: Agent, world: World, sessions: dict[str, Session]) -> None:
    """A picture that the model asks for reaches it as a picture, and the session goes on."""
    done = session(agent, world, sessions)
    assert pictures_of(done.asked[0]) == []
    (url,) = pictures_of(done.asked[-1])
    assert url.startswith("data:image/")
    assert base64.b64decode(url.partition("base64,")[2], validate=True)
    assert END in done.ran.said, done.ran.out


@pytest.mark.parametrize("agent", cases("MCP", CLAUDE_MCP, CODEX_MCP, OPENCODE_MCP, CN_MCP, CLINE_MCP))
def test_uses_a_server_of_tools(agent: Agent, world: World) -> None:
    """The model is offered the tools of an MCP server, the server is asked what it called, and it hears the answer."""
    ran = world.run(agent, Use((Call(agent.lookup, {"word": "heliotrope"}),)))
    first, last = world.engine.asked
    assert agent.lookup in tools_of(first), ran.out
    assert world.place.words.read_text() == "heliotrope\n", ran.out
    assert MEANINGS["heliotrope"] in results_of(last)
    assert END in ran.said, ran.out


@pytest.mark.parametrize("agent", cases("429", *AGENTS))
def test_busy_engine(agent: Agent, world: World) -> None:
    """An engine that is busy once is asked the same once more, and the agent comes to its end."""
    ran = world.run(agent, TOO_MANY)
    assert END in ran.said, ran.out
    assert ran.code == 0, ran.out
    first, second = world.engine.asked
    assert second["messages"] == first["messages"]


@pytest.mark.parametrize("agent", cases("cut stream", *AGENTS))
def test_cut_stream(agent: Agent, world: World) -> None:
    """A stream that breaks is not taken for an answer: the agent asks the same again, or says what was and fails."""
    ran = world.run(agent, Cut())
    if agent.asks_again:
        assert END in ran.said, ran.out
        first, second = world.engine.asked
        assert second["messages"] == first["messages"]
        assert CUT_WORDS not in json.dumps(second)
    else:
        assert END not in ran.said, ran.out
        assert len(world.engine.asked) == 1
        assert "broke off before its answer was complete" in ran.said
        assert ran.code != 0


@pytest.mark.parametrize("agent", cases("prompt too long", *AGENTS))
def test_prompt_too_long(agent: Agent, world: World) -> None:
    """What was refused as too long is not asked again: the agent says what is wrong in words that it has only for this.

    Or it makes its conversation shorter, with the model's help or without, and goes on with that.
    """
    command = "seq -f %040.0f 100001 102000"  # 82 kB
    call = agent.bash(command) if agent.bash else None
    steps: list[Step] = [Use((call,))] * 3 if isinstance(call, Call) else []
    ran = world.run(agent, *steps, TOO_LONG)
    asked, beside = world.engine.asked, world.engine.beside
    refused, after = asked[len(steps)], asked[len(steps) + 1 :]
    assert agent.full in ran.said, ran.out
    summed_up = [body for body in beside if PROMPT in json.dumps(body) and command in json.dumps(body)]
    if agent.room is Room.GIVES_UP:
        assert (after, beside) == ([], [])
        assert END not in ran.said, ran.out
        return
    assert len(summed_up) == (agent.room is not Room.CUTS)
    if agent.room is Room.SUMS_UP_AND_ENDS:
        assert [BESIDE in json.dumps(body) for body in after] in ([], [True])
        return
    (again,) = after
    assert END in ran.said, ran.out
    assert len(json.dumps(again)) < len(json.dumps(refused))
    assert (BESIDE in json.dumps(again)) == (agent.room is Room.SUMS_UP)
