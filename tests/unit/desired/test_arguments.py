import pytest

from capstan_contract.config import Task
from capstan_operator.desired.arguments import (
    HOLE,
    CommandLine,
    GivenOption,
    expand_variables,
    is_given,
    merge_arguments,
    option,
    read_command_line,
    resolve_environment,
    without_options,
)
from capstan_operator.desired.engine import build_engine, model_path, vllm_arguments
from support.plainmodels import SETTINGS, make_model


def _vllm(**spec: object) -> list[str]:
    model = make_model(**spec)  # type: ignore[arg-type]
    assert model.spec is not None
    return vllm_arguments(model.spec, name="llama", path=model_path(model.spec))


def _after(flag: str, arguments: list[str]) -> str:
    return arguments[arguments.index(flag) + 1]


def test_engine_knows_model_by_its_own_name() -> None:
    """The engine is given metadata.name, so that another served name restarts nothing."""
    arguments = _vllm(model={"servedName": "something-else"})
    assert arguments[0] == "example/model"
    assert _after("--served-model-name", arguments) == "llama"
    assert "something-else" not in arguments


@pytest.mark.parametrize(
    "users",
    [["--max-model-len", "10"], ["--max-model-len=10"], ["--max_model_len", "10"]],
)
def test_users_option_replaces_ours_in_any_spelling(users: list[str]) -> None:
    """An option that the user writes, in any spelling, is there once: as the user writes it, and last."""
    arguments = _vllm(serving={"contextWindow": 99}, engine={"args": users})
    assert "99" not in arguments
    assert arguments[-len(users) :] == users


def test_short_and_negated_spellings_count() -> None:
    """-tp means --tensor-parallel-size, and --no-x speaks of x."""
    arguments = _vllm(resources={"gpus": 4}, engine={"args": ["-tp", "2", "--no-enable-prompt-tokens-details"]})
    assert "--tensor-parallel-size" not in arguments
    assert "--enable-prompt-tokens-details" not in arguments


@pytest.mark.parametrize(
    ("gpus", "parallelism", "tensor"),
    [(0, {}, None), (1, {}, None), (8, {}, "8"), (8, {"pipeline": 2}, "4"), (8, {"tensor": 4, "pipeline": 2}, "4")],
)
def test_tensor_parallel_size_uses_all_gpus(gpus: int, parallelism: dict[str, int], tensor: str | None) -> None:
    """Without being told, a stage of the pipeline spreads over its share of the GPUs."""
    arguments = _vllm(resources={"gpus": gpus}, parallelism=parallelism)
    assert (_after("--tensor-parallel-size", arguments) if tensor else None) == tensor
    assert ("--tensor-parallel-size" in arguments) == (tensor is not None)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task.EMBED, ["--runner", "pooling", "--convert", "embed"]),
        (Task.CLASSIFY, ["--runner", "pooling", "--convert", "classify"]),
        (Task.SCORE, ["--runner", "pooling"]),
        (Task.CHAT, ["--enable-prompt-tokens-details"]),
        (Task.TRANSCRIBE, ["--enable-prompt-tokens-details"]),
    ],
)
def test_task_chooses_the_runner(task: Task, expected: list[str]) -> None:
    """A model that gives no text is started with the pooling runner."""
    assert _vllm(model={"task": task.value})[3:] == expected


def test_tool_parser_is_never_guessed() -> None:
    """Tools are switched on only with the parser that the user names."""
    assert not [a for a in _vllm(serving={"capabilities": ["Tools"]}) if "tool" in a]
    named = _vllm(serving={"capabilities": ["Tools"]}, engine={"args": ["--tool-call-parser", "hermes"]})
    assert named.count("--enable-auto-tool-choice") == 1


def test_s3_is_streamed_and_revision_is_given() -> None:
    """s3:// weights are streamed; a revision is passed on."""
    assert _after("--load-format", _vllm(model={"source": "s3://models/llama"})) == "runai_streamer"
    assert _after("--revision", _vllm(model={"revision": "v1"})) == "v1"


def test_worker_image_runs_vllm_unless_an_image_or_version_is_named() -> None:
    """vLLM runs in the worker's process, or in its own image with the worker beside it."""
    for engine, in_process in (({}, True), ({"version": "v1"}, False), ({"image": "x/y:1"}, False)):
        model = make_model(engine=engine)
        assert model.spec is not None
        assert build_engine(model, model.spec, SETTINGS).in_process == in_process


@pytest.mark.parametrize(
    ("image", "expected"),
    [("registry:5000/tgi:latest", "registry:5000/tgi:3.3"), ("registry:5000/tgi", "registry:5000/tgi:3.3")],
)
def test_version_replaces_the_tag_only(image: str, expected: str) -> None:
    """A version is the tag of the default image; the registry's port is no tag."""
    model = make_model(engine={"type": "TGI", "version": "3.3"})
    assert model.spec is not None
    settings = type(SETTINGS)(tgi_image=image)
    assert build_engine(model, model.spec, settings).image == expected


def test_options_are_taken_out_with_their_values() -> None:
    """With all of them, whether they stand in the same word or after it; what only follows the word stays."""
    words = ["--a", "b", "--host", "h", "i", "--c", "--port=1", "d", "--host=x", "--e"]
    assert without_options(("--host", "--port"), words) == ["--a", "b", "--c", "d", "--e"]
    assert without_options(("--x",), words) == words


def test_words_before_the_first_option_are_told_apart() -> None:
    """They belong to no option."""
    assert read_command_line(["a", "b"]) == CommandLine((), ("a", "b"))
    line = CommandLine((GivenOption(1, "--b-c", ("d", "e"), inline=True), GivenOption(3, "-f", ())), ("a",))
    assert read_command_line(["a", "--b_c=d", "e", "-f"]) == line


def test_a_part_of_a_value_is_said_of_its_option() -> None:
    """vLLM takes the keys of a value in JSON one by one, and then they are all that it gets of it."""
    words = ["--speculative-config.method", "mtp", "--speculative_config.num_speculative_tokens=3"]
    (first, second) = read_command_line(words).options
    assert (first.flag, first.key, first.values) == ("--speculative-config", "method", ("mtp",))
    assert (second.flag, second.key, second.values) == ("--speculative-config", "num_speculative_tokens", ("3",))
    assert is_given("--speculative-config", words)
    assert merge_arguments([option("--speculative-config", "{}")], words) == words


def test_variables_are_expanded_as_the_kubelet_does() -> None:
    """Two dollars are one, and keep what follows from being a variable; what is not known leaves a hole."""
    assert expand_variables(["$$(A) $(A)$(B)", "$$", "$A"], {"A": "x"}) == [f"$(A) x{HOLE}", "$", "$A"]


def test_a_variable_that_comes_from_elsewhere_is_not_known_any_more() -> None:
    """The last one of a name counts, for those that name it after that too."""
    environment = [("A", "x"), ("B", "$(A)"), ("A", None), ("C", "$(A)")]
    assert resolve_environment(environment) == {"B": "x", "C": HOLE}


@pytest.mark.parametrize("word", ["--max-x", "--max_x", "--max-x=1", "--max_x=a=b", "--no-max-x"])
def test_an_option_is_given_in_any_spelling(word: str) -> None:
    """With or without its value, and as its contrary."""
    assert is_given("--max-x", [word])
    assert not is_given("--max", [word])
    assert not is_given("--max-x", [f"x{word}"])
    assert merge_arguments([option("--max-x", "9"), option("--y")], [word]) == ["--y", word]
