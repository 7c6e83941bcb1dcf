"""aider: chat or /v1/messages. It has no tools: what the model wants changed is text that it obeys."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.agent_engine import Say
from support.agents.program import Agent, Place
from support.needs import ROOT, need_binary

VENV = ROOT / ".venv-aider" / "bin"
OPTIONS = [
    "--yes-always", "--no-analytics", "--no-check-update", "--no-show-model-warnings", "--no-gitignore", "--no-pretty",
]  # fmt: skip
MODEL = {"max_input_tokens": 32_768, "max_output_tokens": 4096, "supports_vision": True}
"""What aider cannot know of a model of our own; without it no picture is sent."""


def _repository(place: Place) -> None:
    """Make a git repository of the folder: what is not in it aider does not see."""
    git = need_binary("git", "git")
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com")
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "The beginning"]):
        subprocess.run([git, *arguments], cwd=place.work, check=True, capture_output=True)


def _aider(model: str, *more: str) -> Callable[[Place, str], list[str]]:
    def command(place: Place, prompt: str) -> list[str]:
        _repository(place)
        place.write(".aider.model.metadata.json", json.dumps({model: MODEL}))
        return ["--model", model, *OPTIONS, *more, "--message", prompt, "change.txt"]

    return command


def _is_no_commit_message(body: Mapping[str, Any]) -> bool:
    return "commit message" not in json.dumps(body["messages"][0])


def _block(path: Path, old: str, new: str) -> Say:
    """Give the form `diff`: what is looked for, and what takes its place."""
    return Say(f"{path.name}\n```\n<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n```\n")


def _whole(path: Path, text: str) -> Say:
    """Give the form `whole`, that of models which aider does not know: the file."""
    return Say(f"{path.name}\n```\n{text}\n```\n")


AIDER_CHAT = Agent(
    name="aider, chat",
    package="pypi:aider-chat",
    binary="aider",
    installed=VENV,
    main=_is_no_commit_message,
    command=_aider("openai/coder"),
    environ=lambda place: {"OPENAI_API_BASE": f"{place.gateway}/v1", "OPENAI_API_KEY": "any"},
    full="has hit a token limit!",
    has_tools=False,
    write=_whole,
    # A file that the model names is added to what it is shown.
    read=lambda path: Say(f"Before I change anything I have to see {path.name}, please."),
    edit=lambda path, _, new: _whole(path, new),
    look=lambda path: Say(f"Before I change anything I have to see {path.name}, please."),
)
AIDER_MESSAGES = replace(
    AIDER_CHAT,
    name="aider, Messages",
    command=_aider("anthropic/coder", "--edit-format", "diff"),
    environ=lambda place: {"ANTHROPIC_BASE_URL": place.gateway, "ANTHROPIC_API_KEY": "any"},
    write=lambda path, text: _block(path, "", f"{text}\n"),
    edit=lambda path, old, new: _block(path, f"{old}\n", f"{new}\n"),
)
