"""What is reserved for each type of engine, one table each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from capstan_contract.config import Task
from capstan_contract.names import ENGINE_PORT
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.desired.engine import tensor_parallel_size
from capstan_operator.desired.reserved import (
    ADAPTERS_WHY,
    EVENTS_WHY,
    EVERYWHERE,
    HELP,
    HOST,
    KEY_WHY,
    LEAVES,
    MASTER_PORT,
    NAME,
    NAME_WHY,
    ONE_POD,
    OTHER_PORT,
    PORT,
    PREFIX_WHY,
    REVISION,
    REVISION_WHY,
    SOURCE_WHY,
    TLS,
    TLS_WHY,
    WHERE,
    Reserved,
    Table,
    fits_task,
    generates,
    has_adapters,
    has_revision,
    in_process,
    is_name,
    is_no_other_port,
    is_other_port,
    is_path,
    is_reachable,
    is_revision,
    only,
)

_ONE_VALUE_VLLM = frozenset(
    {
        *("--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--gpu-memory-utilization", "--dtype"),
        *("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp"),
        *("--quantization", "-q", "--kv-cache-dtype", "--load-format", "--seed", "--block-size", "--revision"),
        *("--tool-call-parser", "--reasoning-parser", "--chat-template", "--tokenizer", "--download-dir", "--config"),
        *("--kv-offloading-size", "--kv-offloading-backend", "--kv-transfer-config"),
        *("--max-lora-rank", "--max-loras", "--swap-space", "--cpu-offload-gb", "--runner", "--convert", "--task"),
    }
)
_ONE_VALUE_SGLANG = frozenset(
    {
        *("--context-length", "--mem-fraction-static", "--max-running-requests", "--max-total-tokens", "--dtype"),
        *("--tp-size", "--tp", "--tensor-parallel-size", "--pp-size", "--pp", "--dp-size", "--dp", "--revision"),
        *("--quantization", "--kv-cache-dtype", "--load-format", "--chunked-prefill-size", "--schedule-policy"),
        "--page-size",
        *("--tool-call-parser", "--reasoning-parser", "--chat-template", "--tokenizer-path", "--attention-backend"),
    }
)
_ONE_VALUE_TGI = frozenset(
    {
        *("--max-total-tokens", "--max-input-tokens", "--max-input-length", "--max-batch-prefill-tokens"),
        *("--max-batch-total-tokens", "--max-concurrent-requests", "--num-shard", "--quantize", "--dtype"),
        *(
            "--revision",
            "--cuda-memory-fraction",
            "--kv-cache-dtype",
            "--tokenizer-config-path",
            "--waiting-served-ratio",
        ),
    }
)
_ONE_VALUE_SIMULATOR = frozenset(
    {
        *("--alias", "--context-window", "--kv-blocks", "--prefix-cache", "--ttft-ms", "--prefill-tokens-per-second"),
        *("--tpot-ms", "--jitter", "--batch-slowdown", "--concurrency", "--answer-tokens", "--chunk-tokens", "--seed"),
        *("--embedding-size", "--label", "--startup-seconds", "--keep-alive-seconds", "--fault", "--settle-seconds"),
        *("--log-level", "--log-format", "--reasoning-tokens", "--reasoning-field", "--refusal-rate", "--accuracy"),
        *("--parallel-calls", "--keep-warm-seconds", "--latency-factor", "--harmful-refusal-rate", "--refusal-form"),
        *("--bare-answers", "--answers", "--answer"),
    }
)

_VLLM = Table(
    (
        HOST,
        Reserved(("--port", "-p"), WHERE, only(str(ENGINE_PORT)), variables=("VLLM_PORT",)),
        Reserved(("--uds",), WHERE),
        Reserved(("--root-path",), PREFIX_WHY),
        Reserved(("--api-key",), KEY_WHY, variables=("VLLM_API_KEY",)),
        TLS,
        NAME,
        Reserved(("--model",), SOURCE_WHY, is_path),
        REVISION,
        Reserved(
            ("--runner",),
            "`spec.model.task` says what the model does",
            fits_task(
                {
                    Task.CHAT: ("generate",),
                    Task.COMPLETION: ("generate",),
                    Task.EMBED: ("pooling",),
                    Task.CLASSIFY: ("pooling",),
                    Task.SCORE: ("pooling",),
                    Task.TRANSCRIBE: ("generate",),
                }
            ),
        ),
        Reserved(
            ("--convert",),
            "`spec.model.task` says what the model does",
            fits_task(
                {
                    Task.CHAT: ("none",),
                    Task.COMPLETION: ("none",),
                    Task.EMBED: ("embed",),
                    Task.CLASSIFY: ("classify",),
                    Task.TRANSCRIBE: ("none",),
                }
            ),
        ),
        Reserved(
            ("--task",),
            "`spec.model.task` says what the model does",
            fits_task(
                {
                    Task.CHAT: ("generate",),
                    Task.COMPLETION: ("generate",),
                    Task.EMBED: ("embed", "embedding"),
                    Task.CLASSIFY: ("classify",),
                    Task.TRANSCRIBE: ("transcription", "generate"),
                }
            ),
        ),
        Reserved(("--lora-modules", "--no-enable-lora"), ADAPTERS_WHY, applies=has_adapters),
        Reserved(("--kv-events-config",), EVENTS_WHY, applies=lambda facts: facts.spec.engine.tells_blocks),
        Reserved(("--headless", "--grpc", "--grpc-port", "--tokens-only"), "the gateway needs the engine's OpenAI API"),
        Reserved(
            ("--api-server-count", "-asc"),
            "vLLM runs in the worker's process; with `spec.engine.version` it has servers of its own",
            applies=in_process,
        ),
        Reserved(("--nnodes", "-n"), ONE_POD, only("1")),
        Reserved(("--node-rank", "-r"), ONE_POD, only("0")),
        Reserved(
            (
                "--data-parallel-rank",
                "-dpn",
                "--data-parallel-start-rank",
                "-dpr",
                "--data-parallel-address",
                "-dpa",
                "--data-parallel-hybrid-lb",
                "-dph",
                "--data-parallel-external-lb",
                "-dpe",
            ),
            ONE_POD,
        ),
        HELP,
        Reserved(("-v",), LEAVES),
        MASTER_PORT,
        Reserved(
            (),
            OTHER_PORT,
            is_other_port,
            variables=("VLLM_DP_MASTER_PORT", "VLLM_NIXL_SIDE_CHANNEL_PORT", "VLLM_MOONCAKE_BOOTSTRAP_PORT"),
        ),
        *EVERYWHERE,
    ),
    one_value=_ONE_VALUE_VLLM,
)

_SGLANG = Table(
    (
        HOST,
        Reserved(("--port", "-p"), WHERE, only(str(ENGINE_PORT)), variables=("SGLANG_PORT",)),
        Reserved(("--uds",), WHERE),
        Reserved(("--fastapi-root-path", "--root-path"), PREFIX_WHY),
        Reserved(("--api-key", "--admin-api-key"), KEY_WHY, variables=("SGLANG_API_KEY",)),
        TLS,
        NAME,
        Reserved(("--model-path", "--model"), SOURCE_WHY, is_path),
        REVISION,
        Reserved(("--is-embedding",), "`spec.model.task` says what the model does", applies=generates),
        Reserved(("--lora-paths", "--no-enable-lora"), ADAPTERS_WHY, applies=has_adapters),
        Reserved(("--grpc-mode", "--smg-grpc-mode"), "the gateway needs the engine's OpenAI API"),
        Reserved(("--disaggregation-mode",), ONE_POD, only("null")),
        Reserved(("--nnodes",), ONE_POD, only("1")),
        Reserved(("--node-rank",), ONE_POD, only("0")),
        HELP,
        MASTER_PORT,
        *EVERYWHERE,
    ),
    one_value=_ONE_VALUE_SGLANG,
)

_TGI = Table(
    (
        Reserved(("--hostname",), WHERE, only("0.0.0.0"), variables=("HOSTNAME",)),
        Reserved(("--host",), WHERE, only("0.0.0.0"), variables=("HOST",)),
        Reserved(("--port", "-p"), WHERE, only(str(ENGINE_PORT)), variables=("PORT",)),
        Reserved(("--api-key",), KEY_WHY, variables=("API_KEY",)),
        TLS,
        Reserved(("--served-model-name",), f"TGI has no such option. {NAME_WHY}"),
        Reserved(("--model-id", "--model"), SOURCE_WHY, is_path, variables=("MODEL_ID",)),
        Reserved(("--revision",), REVISION_WHY, is_revision, has_revision, variables=("REVISION",)),
        Reserved(("--lora-adapters",), ADAPTERS_WHY, applies=has_adapters, variables=("LORA_ADAPTERS",)),
        Reserved(
            (),
            "`spec.resources.gpus` and `spec.parallelism` say it",
            lambda facts, values: values == (str(tensor_parallel_size(facts.spec)),),
            variables=("NUM_SHARD",),
        ),
        HELP,
        Reserved(("-V",), LEAVES),
        MASTER_PORT,
        Reserved((), OTHER_PORT, is_other_port, variables=("PROMETHEUS_PORT",)),
        *EVERYWHERE,
    ),
    abbreviates=False,
    one_value=_ONE_VALUE_TGI,
)

_SIMULATOR = Table(
    (
        HOST,
        PORT,
        Reserved(("--worker-port",), "the probes and the gateway reach the worker on the port that Capstan says"),
        Reserved(("--model", "--served-model-name"), NAME_WHY, is_name),
        Reserved(
            ("--task",),
            "`spec.model.task` says what the model does",
            lambda facts, values: values == (facts.spec.model.task.value,),
        ),
        Reserved(("--prefixes",), "`spec.prefixes` says which prompts are kept warm"),
        Reserved(("--grace-seconds",), "`spec.serving.timeouts.totalSeconds` says how long an answer may take"),
        Reserved(
            ("--kv-events",),
            EVENTS_WHY,
            lambda facts, values: values == ("on" if facts.spec.engine.tells_blocks else "off",),
        ),
        Reserved(("--api-key",), KEY_WHY),
        TLS,
        HELP,
        *EVERYWHERE,
    ),
    switches=re.compile("--allow-fault-headers$"),
    one_value=_ONE_VALUE_SIMULATOR,
)

_COMPATIBLE = Table(
    (
        Reserved(("--host", "--hostname"), WHERE, is_reachable, variables=("HOST", "LLAMA_ARG_HOST", "UVICORN_HOST")),
        Reserved(("--port",), WHERE, only(str(ENGINE_PORT)), variables=("PORT", "LLAMA_ARG_PORT", "UVICORN_PORT")),
        Reserved(("-p",), WHERE, is_no_other_port),
        Reserved(("--uds",), WHERE, variables=("UVICORN_UDS",)),
        Reserved(("--root-path", "--api-prefix"), PREFIX_WHY, variables=("LLAMA_ARG_API_PREFIX", "UVICORN_ROOT_PATH")),
        Reserved(
            ("--api-key", "--api-key-file"),
            KEY_WHY,
            variables=("VLLM_API_KEY", "LLAMA_API_KEY", "LLAMA_ARG_API_KEY"),
        ),
        Reserved(
            ("--ssl-*", "--enable-ssl-refresh"),
            TLS_WHY,
            variables=(
                *("LLAMA_ARG_SSL_KEY_FILE", "LLAMA_ARG_SSL_CERT_FILE"),
                *("UVICORN_SSL_KEYFILE", "UVICORN_SSL_CERTFILE"),
            ),
        ),
        Reserved(("--served-model-name",), NAME_WHY, lambda facts, values: facts.name in values),
        Reserved((), SOURCE_WHY, variables=("CAPSTAN_MODEL_PATH",)),
        *EVERYWHERE,
    ),
    abbreviates=False,
    is_parsed=False,
)

TABLES: Final[Mapping[EngineType, Table]] = MappingProxyType(
    {
        EngineType.VLLM: _VLLM,
        EngineType.SGLANG: _SGLANG,
        EngineType.TGI: _TGI,
        EngineType.SIMULATOR: _SIMULATOR,
        EngineType.OPENAI_COMPATIBLE: _COMPATIBLE,
    }
)


@dataclass(frozen=True)
class Spread:
    """The options of one type of engine that say over how many GPUs a replica is spread; their product counts."""

    factors: tuple[tuple[str, ...], ...]
    """Spellings of each: tensor, pipeline and data parallel size, in this order."""
    data_shares: str = ""
    """An option with which the data parallel replicas share the GPUs of the others."""


SPREADS: Final[Mapping[EngineType, Spread]] = MappingProxyType(
    {
        EngineType.VLLM: Spread(
            (
                ("--tensor-parallel-size", "-tp"),
                ("--pipeline-parallel-size", "-pp"),
                ("--data-parallel-size", "-dp", "--data-parallel-size-local", "-dpl"),
            )
        ),
        EngineType.SGLANG: Spread(
            (
                ("--tp-size", "--tensor-parallel-size", "--tp"),
                ("--pp-size", "--pipeline-parallel-size", "--pp"),
                ("--dp-size", "--data-parallel-size", "--dp"),
            ),
            data_shares="--enable-dp-attention",
        ),
        EngineType.TGI: Spread((("--num-shard",), (), ())),
    }
)
