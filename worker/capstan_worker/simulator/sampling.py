"""Sampling parameters that no sampler of vLLM's takes (after `vllm/sampling_params.py`), in its words."""

import math
from collections.abc import Mapping
from typing import Any, Final

from capstan_worker.simulator.errors import ApiError

Body = Mapping[str, Any]
MAX_STOPS: Final = 4
"""VLLM_MAX_STOP_STRINGS."""
MAX_CHOICES: Final = 128


def check_sampling(body: Body) -> None:
    """Raise what vLLM says of values that no sampler can take."""
    for name in ("presence_penalty", "frequency_penalty"):
        value = body.get(name)
        if value is not None and not -2 <= value <= 2:
            raise ApiError(400, f"{name} must be in [-2, 2], got {value}.")
    value = body.get("repetition_penalty")
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ApiError(400, f"repetition_penalty must be greater than zero, got {value}.")
    _check_shares(body)
    value = body.get("top_k")
    if value is not None and value < -1:
        raise ApiError(400, f"top_k must be 0 (disable), or at least 1, got {value}.")
    if any(not item for item in _stops(body)):
        raise ApiError(400, "stop cannot contain an empty string.")
    if any(not item for item in body.get("bad_words") or ()):
        raise ApiError(400, f"bad_words cannot contain an empty string. Got bad_words={body['bad_words']}"[:400])
    bias = body.get("logit_bias") or {}
    for token in bias:
        if not (token.isascii() and token.isdigit()):
            message = (
                f"Found invalid value in logit_bias: '{token[:64]}'. Token IDs must be integers or strings of them"
            )
            raise ApiError(400, message, param="logit_bias")


def _check_shares(body: Body) -> None:
    for name, low, high, says in (
        ("temperature", 0.0, 2.0, "in [0, 2]"),
        ("top_p", math.ulp(0.0), 1.0, "in (0, 1]"),
        ("min_p", 0.0, 1.0, "in [0, 1]"),
    ):
        value = body.get(name)
        if value is None or low <= value <= high:
            continue
        must = (
            "a finite number" if not math.isfinite(value) else "non-negative" if name[0] == "t" and value < 0 else says
        )
        if name == "top_p":
            must = says
        raise named(f"{name} must be {must}, got {value}.", name, value)


def _stops(body: Body) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def named(message: str, param: str, value: Any) -> ApiError:
    """Give an error of vLLM's that names the field and its value at the end, as its exceptions do."""
    return ApiError(400, f"{message} (parameter={param}, value={value})", param=param)
