"""Governed requests: an API key, a limit on requests, one on tokens and a budget, on a Redis beside the gateway.

Three rows of bench/gateway.py, before the mock only, to be read beside vllm-router and Capstan's own pass-through,
which do nothing of it: Capstan with shares of the limits in memory (the default), Capstan that asks Redis for every
request, and LiteLLM's proxy with a key and the same limits. The limits are never reached: what is measured is what
they cost.
Redis has the core of the load, as a server elsewhere would not take the gateway's.
"""

import json
from pathlib import Path
from typing import Final

from gateway_install import LITELLM
from gateway_report import ASKING, GOVERNED, LITELLM_GOVERNED
from gateway_rivals import (
    Rival,
    bench_entry,
    capstan_command,
    distribution,
    litellm_environment,
    own_version,
    write_config,
)
from gateway_upstreams import UPSTREAM_PORT

from capstan_contract.config import GatewayConfig, Price
from capstan_contract.keys import KeyEntry, digest_of
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)

REDIS_PORT: Final = 18099
KEY: Final = "sk-capstan-bench-0123456789abcdef0123456789abcdef"
MINUTE_MS: Final = 60_000
REQUESTS: Final = 100_000_000
TOKENS: Final = 100_000_000_000
DOLLARS: Final = 1_000_000
REDIS: Final = (
    "redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
)  # fmt: skip

LITELLM_KEYS: Final = f'''
from litellm.proxy._types import UserAPIKeyAuth


async def check(request, api_key):
    if api_key != "{KEY}":
        raise Exception("no such key")
    return UserAPIKeyAuth(
        api_key=api_key, token="bench", user_id="bench", team_id="bench", rpm_limit={REQUESTS},
        team_tpm_limit={TOKENS}, team_max_budget={DOLLARS}.0, team_spend=0.0,
    )
'''
"""Keys of LiteLLM need its database, unless a function of one's own says whose they are, as here."""


def _in_a_minute(amount: int) -> dict[str, int]:
    return {"amount": amount, "windowMillis": MINUTE_MS, "burst": amount}


def governed_config() -> GatewayConfig:
    """Give a config with one model, one key and one policy: requests per key, tokens and dollars per team."""
    body = RateLimitBody(
        limits=(
            LimitRule(name="requests", per=Per.KEY, unit=Unit.REQUESTS, **_in_a_minute(REQUESTS)),
            LimitRule(name="tokens", per=Per.TEAM, unit=Unit.TOKENS, **_in_a_minute(TOKENS)),
        ),
        budgets=(
            BudgetRule(name="month", per=Per.TEAM, nanoDollars=DOLLARS * 10**9, period=Period(type=PeriodType.MONTH)),
        ),
    )
    policy = rate_limit_entry("bench", "bench", body)
    salt = "00" * 16
    key = KeyEntry(id="bench", digest=digest_of(salt, KEY.encode()), user="bench", team="bench", tenant="team:bench")
    entry = bench_entry().model_copy(
        update={"policies": (policy.id,), "price": Price(inputPerMillion=0.15, outputPerMillion=0.6)}
    )
    return GatewayConfig.build((entry,), policies=(policy,), keys=(key,), key_salt=salt)


def _capstan(folder: Path, port: int, *further: str) -> list[str]:
    write_config(governed_config(), folder)
    command = [part for part in capstan_command(folder, port) if part != "--insecure-no-auth"]
    return [*command, "--redis-url", f"redis://127.0.0.1:{REDIS_PORT}/0", *further]


def _asking(folder: Path, port: int) -> list[str]:
    return [*_capstan(folder, port), "--limits-one-by-one"]


def _litellm(folder: Path, port: int) -> list[str]:
    """One worker, as the row without limits; its counts are in the same Redis."""
    parameters = {
        "model": "openai/bench", "api_base": f"http://127.0.0.1:{UPSTREAM_PORT}/v1", "api_key": "none",
        "input_cost_per_token": 0.15e-6, "output_cost_per_token": 0.6e-6,
    }  # fmt: skip
    cache = {"type": "redis", "host": "127.0.0.1", "port": REDIS_PORT, "supported_call_types": []}
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": parameters}],
        "general_settings": {"custom_auth": "bench_keys.check"},
        "litellm_settings": {"cache": True, "cache_params": cache, "enable_post_custom_auth_checks": True},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    (folder / "bench_keys.py").write_text(LITELLM_KEYS)
    command = [str(LITELLM / "bin" / "litellm"), "--config", str(folder / "config.yaml"), "--port", str(port)]
    return [*command, "--host", "127.0.0.1", "--num_workers", "1"]


_BEARER: Final = {"authorization": f"Bearer {KEY}"}
GOVERNED_RIVALS: Final = [
    Rival(GOVERNED, _capstan, own_version, headers=_BEARER, beside=REDIS, upstreams=("mock",)),
    Rival(ASKING, _asking, own_version, headers=_BEARER, beside=REDIS, upstreams=("mock",)),
    Rival(
        LITELLM_GOVERNED,
        _litellm,
        lambda: distribution(LITELLM / "bin" / "python", "litellm"),
        headers=_BEARER,
        environment=litellm_environment(),
        beside=REDIS,
        upstreams=("mock",),
    ),
]
