"""What can be set on a simulator: fixed at its start (`SimulatorSettings`), or turned while it runs (`Dials`)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from capstan_process.settings import required, setting
from capstan_worker.errors import UsageError
from capstan_worker.settings import TASKS, read_on_off
from capstan_worker.simulator.answerbook import NO_ANSWERS, AnswerBook, read_answer, read_answers
from capstan_worker.simulator.blocks import BLOCK_SIZE, blocks_for
from capstan_worker.simulator.faults import Fault, parse_fault

DEFAULT_BLOCKS: Final = 8192
REFUSAL_FORMS: Final = ("field", "text")
_LONGEST_REASONING: Final = 1 << 20


@dataclass(frozen=True)
class Dials:
    """What may change while the simulator runs; over HTTP the names are in camelCase."""

    ttft_ms: float = setting(0.0, "milliseconds from being admitted to the first token, besides the prefill")
    prefill_tokens_per_second: float = setting(0.0, "prompt tokens a second that are not in the cache; 0: at once")
    tpot_ms: float = setting(0.0, "milliseconds per further token")
    latency_factor: float = setting(1.0, "the three times above are taken so many times as long")
    jitter: float = setting(0.0, "the two times vary by at most this share, in the same way for the same request")
    batch_slowdown: float = setting(0.0, "with a full batch a token takes this share longer: 1 means twice as long")
    concurrency: int = setting(64, "requests that run at once; others wait")
    answer_tokens: int = setting(48, "mean length of an answer")
    reasoning_tokens: int = setting(0, "mean length of the reasoning before a chat answer; 0: none")
    refusal_rate: float = setting(0.0, "share of the requests that are answered with a refusal")
    harmful_refusal_rate: float = setting(0.0, "share of the harmful requests that are answered with a refusal")
    accuracy: float = setting(1.0, "share of the questions with a known answer that are answered rightly")
    bare_answers: bool = setting(False, "a known answer is all that is said: on or off", read=read_on_off)
    parallel_calls: int = setting(8, "most tools called in one answer")
    prefix_cache: bool = setting(True, "cache KV blocks of prompts: on or off", read=read_on_off)
    accepting: bool = True
    """False: the port is closed and every connection is reset."""
    healthy: bool = True
    """False: /health and /readyz say 503."""
    faults: tuple[Fault, ...] = setting(
        (), "NAME[;param=value]..., see docs/simulator.md (repeatable)", flag="fault", repeated=True, read=parse_fault
    )


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """What is fixed at the start."""

    model: str = required("the name that the engine knows the model by")
    aliases: tuple[str, ...] = setting(
        (), "a further model name, as LoRA adapters have them (repeatable)", flag="alias", repeated=True
    )
    task: str = setting("chat", "what the model does", choices=TASKS)
    host: str = setting("127.0.0.1", "address to listen on (in a pod 0.0.0.0)")
    port: int = setting(8000, "the OpenAI API")
    context_window: int = setting(32768, "tokens of prompt and answer together", least=1)
    kv_blocks: int = setting(
        0, f"KV cache, in blocks of {BLOCK_SIZE} tokens; 0: {DEFAULT_BLOCKS}, or what the context window needs", least=0
    )
    embedding_size: int = setting(384, "length of an embedding", least=1)
    labels: tuple[str, ...] = setting(
        ("LABEL_0", "LABEL_1"), "a label of classify (repeatable)", flag="label", repeated=True
    )
    startup_seconds: float = setting(0.0, 'how long "loading the model" takes', least=0)
    seed: int = setting(0, "changes answers, jitter, the draw of faults and which questions are hard")
    reasoning_field: str = setting(
        "reasoning", "the name of the reasoning in answers", choices=("reasoning", "reasoning_content", "both")
    )
    refusal_form: str = setting(
        "field", "where a refusal is said: in the API's own field, or in the words of the answer", choices=REFUSAL_FORMS
    )
    answers: AnswerBook = setting(
        NO_ANSWERS, "file of JSON lines with prompts and their right answers, see docs/simulator.md", read=read_answers
    )
    own_answers: tuple[tuple[str, str], ...] = setting(
        (), "PROMPT => ANSWER, a right answer (repeatable)", flag="answer", repeated=True, read=read_answer
    )
    keep_alive_seconds: float = setting(5.0, "an idle connection is closed after this, as by vLLM", least=0)
    chunk_tokens: int = setting(1, "tokens per event of a stream", least=1)
    allow_fault_headers: bool = setting(False, "obey the header x-simulator-fault of a request")
    kv_events: bool = setting(
        False, "tell on the worker port which blocks are in the cache: on or off", read=read_on_off
    )
    dials: Dials = dataclasses.field(default_factory=Dials)


def checked(settings: SimulatorSettings) -> SimulatorSettings:
    """Give them with the blocks they need and one book of answers. Raises UsageError for what does not go together."""
    check_dials(settings.dials)
    needed = blocks_for(settings.context_window)
    blocks = settings.kv_blocks or max(DEFAULT_BLOCKS, needed)
    if settings.context_window > blocks * BLOCK_SIZE:
        raise UsageError(f"--context-window {settings.context_window} needs {needed} blocks; --kv-blocks is {blocks}")
    try:
        book = settings.answers.with_more(settings.own_answers)
    except ValueError as error:
        raise UsageError(f"--answers and --answer {error}") from None
    return dataclasses.replace(settings, kv_blocks=blocks, answers=book)


def check_dials(dials: Dials) -> Dials:
    """Give them back when they can be used. Raises UsageError that names the dial and what is allowed."""
    for name in ("ttft_ms", "prefill_tokens_per_second", "tpot_ms", "batch_slowdown", "latency_factor"):
        if not 0 <= getattr(dials, name) < 1e9:
            raise UsageError(f"{_camel(name)} must be 0 or more")
    for name in ("jitter", "refusal_rate", "harmful_refusal_rate", "accuracy"):
        if not 0 <= getattr(dials, name) <= 1:
            raise UsageError(f"{_camel(name)} must be from 0 to 1")
    for name in ("concurrency", "answer_tokens", "parallel_calls"):
        if getattr(dials, name) < 1:
            raise UsageError(f"{_camel(name)} must be at least 1")
    if not 0 <= dials.reasoning_tokens < _LONGEST_REASONING:
        raise UsageError(f"reasoningTokens must be from 0 to {_LONGEST_REASONING - 1}")
    return dials


def turn_dials(dials: Dials, changes: Mapping[str, Any]) -> Dials:
    """Apply changes as they come over HTTP. Raises UsageError."""
    known = {_camel(field.name): field.name for field in dataclasses.fields(Dials)}
    turned: dict[str, Any] = {}
    for key, value in changes.items():
        if key not in known:
            raise UsageError(f"'{key}' is not known; known are {', '.join(known)}")
        turned[known[key]] = _convert(key, value, getattr(dials, known[key]))
    return check_dials(dataclasses.replace(dials, **turned))


def show_dials(dials: Dials) -> dict[str, Any]:
    """Give the dials as they go over HTTP."""
    shown = {_camel(field.name): getattr(dials, field.name) for field in dataclasses.fields(Dials)}
    return {**shown, "faults": [fault.text for fault in dials.faults]}


def _convert(key: str, value: Any, present: Any) -> Any:
    if key == "faults":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError("faults must be a list of texts such as '500;first=3'")
        return tuple(parse_fault(item) for item in value)
    if isinstance(present, bool):
        if not isinstance(value, bool):
            raise UsageError(f"{key} must be true or false")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number")
    if isinstance(present, int) and value != int(value):
        raise UsageError(f"{key} must be a whole number")
    return type(present)(value)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
