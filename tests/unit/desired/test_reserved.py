"""Options and variables that may say what Capstan says, and nothing else."""

from typing import Any

import pytest

from capstan_contract.config import Task
from capstan_operator.desired.faults import find_faults
from capstan_operator.desired.reserved import Facts, fits_task
from support.plainmodels import make_model

IMAGE = {"image": "registry.example.com/server:1"}


def _faults(type_: str, *args: str, task: str = "chat", revision: str | None = None, **spec: Any) -> list[str]:
    """Give the fields of the engine that are faulty."""
    engine = {"type": type_, "args": list(args), **spec.pop("engine", {})}
    if type_ == "OpenAICompatible":
        engine |= IMAGE
    model = make_model(engine=engine, model={"task": task, "revision": revision}, **spec)
    return [fault.field for fault in find_faults(model)]


@pytest.mark.parametrize(
    ("task", "option", "allowed", "refused"),
    [
        ("chat", "--runner", ["generate", "auto"], ["pooling", "draft"]),
        ("embed", "--runner", ["pooling", "auto"], ["generate"]),
        ("chat", "--convert", ["none", "auto"], ["embed"]),
        ("embed", "--convert", ["embed", "auto"], ["none", "classify"]),
        ("score", "--convert", ["classify", "anything"], []),
        ("embed", "--task", ["embed", "embedding", "auto"], ["classify", "generate"]),
        ("score", "--task", ["score", "anything"], []),
        ("transcribe", "--runner", ["generate", "auto"], ["pooling"]),
        ("transcribe", "--task", ["transcription", "generate"], ["embed"]),
    ],
)
def test_what_an_engine_does_has_to_fit_the_task(
    task: str, option: str, allowed: list[str], refused: list[str]
) -> None:
    """Any of its words for the task, or that it finds out by itself; of a task without such words nothing is said."""
    for value in allowed:
        assert _faults("vLLM", option, value, task=task) == []
    for value in refused:
        assert _faults("vLLM", option, value, task=task) == ["spec.engine.args[0]"]


@pytest.mark.parametrize("type_", ["vLLM", "SGLang", "TGI"])
def test_a_revision_is_said_in_one_place(type_: str) -> None:
    """Said again it must be the same; where the spec has none, the option may say one."""
    assert _faults(type_, "--revision", "r1", revision="r1") == []
    assert _faults(type_, "--revision", "r2", revision="r1") == ["spec.engine.args[0]"]
    assert _faults(type_, "--revision", "r2") == []


@pytest.mark.parametrize(
    ("args", "is_fault"),
    [
        (["--host", "0.0.0.0"], False),
        (["--host", "::"], False),
        (["--host", "127.0.0.1"], True),
        (["--host", "127.1.2.3"], True),
        (["--host", "localhost"], True),
        (["--host", "::1"], True),
        (["--host", "[::1]"], True),
        (["--host", "a", "b"], True),
        (["-p", "8000"], False),
        (["-p", "9000"], True),
        (["-p", "a prompt"], False),
        (["-p", "1", "2"], False),
    ],
)
def test_a_server_of_the_user_must_be_reachable_on_our_port(args: list[str], is_fault: bool) -> None:
    """From outside of its pod; of an option that may mean something else only a number is taken for a port."""
    assert _faults("OpenAICompatible", *args) == (["spec.engine.args[0]"] if is_fault else [])


def test_values_that_fit_a_task_are_looked_up_by_the_task_of_the_model() -> None:
    """All of them have to be among its words, and there has to be one."""
    fits = fits_task({Task.CHAT: ("generate", "draft"), Task.EMBED: ()})

    def allows(task: str, *values: str) -> bool:
        model = make_model(model={"task": task})
        assert model.spec
        return fits(Facts("llama", model.spec), values)

    assert allows("chat", "generate")
    assert allows("chat", "auto", "draft")
    assert not allows("chat", "generate", "pooling")
    assert not allows("chat")
    assert allows("embed", "auto")
    assert not allows("embed", "generate")
    assert allows("score", "anything")
