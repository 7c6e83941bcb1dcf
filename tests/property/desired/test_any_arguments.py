from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.llmmodel import EngineType
from capstan_operator.desired.arguments import read_command_line
from capstan_operator.desired.faults import find_doubts, find_faults
from support.plainmodels import make_model

WORDS = st.sampled_from(
    ["--port", "8000", "9000", "--port=9000", "--served", "-p80", "-tp", "2", "--", "", " --x", "$(X)", "--no-x", "-1"]
) | st.text(max_size=6)
ENGINES = st.sampled_from([{"type": kind.value, "image": "r.example.com/e:1"} for kind in EngineType])


@given(ENGINES, st.lists(WORDS, max_size=6))
def test_any_arguments_are_judged(engine: dict[str, Any], words: list[str]) -> None:
    """Whatever the words, there is a verdict and no exception, and no fault but a known option's name is repeated."""
    model = make_model(engine={**engine, "args": words}, resources={"gpus": 1})
    for fault in (*find_faults(model), *find_doubts(model)):
        assert fault.field.startswith("spec.engine.args")


@given(st.lists(WORDS, max_size=8))
def test_a_command_line_is_taken_apart_without_loss(words: list[str]) -> None:
    """Every word is in front of the options, one of them, or a value of one."""
    line = read_command_line(words)
    spread = len(line.leading) + sum(1 + len(given.values) - given.inline for given in line.options)
    assert spread == len(words)


@given(ENGINES, st.lists(WORDS, max_size=5), st.sampled_from(["--port", "--p", "--po", "--por"]))
def test_a_moved_port_is_found_among_any_arguments(engine: dict[str, Any], words: list[str], flag: str) -> None:
    """Wherever it stands, another port is refused, in full and shortened (a free program's is known in full only)."""
    shortens = engine["type"] in ("vLLM", "SGLang", "Simulator")
    flag = flag if shortens else "--port"
    model = make_model(engine={**engine, "args": [*words, flag, "9000"]})
    assert any(fault.field == f"spec.engine.args[{len(words)}]" for fault in find_faults(model))
