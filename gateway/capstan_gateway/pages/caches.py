"""What caches keep, and having them not give it again: for whoever has the admin credential."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request

from capstan_contract.caches import CACHE_KIND
from capstan_gateway.caches.key import model_of
from capstan_gateway.caches.port import CacheKey, Entry, Tier
from capstan_gateway.caches.purges import MOST_NAME, Purge, What, read_key
from capstan_gateway.config.runtime import Runtime
from capstan_gateway.errors import InvalidRequest, ModelNotFound
from capstan_gateway.pipeline.caches.kind import Caches

log = logging.getLogger(__name__)

NO_REDIS: Final = "no Redis is shared: each gateway replica has to be asked"
REDIS_AWAY: Final = "Redis does not answer: it is told when it is back; until then each gateway replica has to be asked"
NOT_TOLD: Final = "Redis does not answer, and tells no other replica: ask again when it is back"


def cache_routes(caches: Caches, current: Callable[[], Runtime | None]) -> APIRouter:
    """POST /admin/cache/purge and /admin/cache/reset, GET /admin/cache/stats and /admin/cache/entry: nothing that was
    asked or answered."""
    router = APIRouter(tags=["admin"])

    @router.post("/admin/cache/purge")
    async def purge(request: Request) -> dict[str, Any]:
        """Have kept answers not be given again: one (`entry`), those of a `model`, of a `tenant`, or `all`.

        `everywhere`: whether all replicas hear of it, within a second; otherwise it holds on this one alone, for now.
        """
        full = _full(current)
        wanted = _purge_of(await request.body(), full)
        everywhere = await caches.purge(wanted)
        model = full.by_id.get(wanted.value) if wanted.what is What.MODEL and full is not None else None
        if model is not None and model.canary is not None:
            everywhere = await caches.purge(Purge(What.MODEL, model.canary.id)) and everywhere
        log.info("the cache was purged", extra={"purged": wanted.what, "everywhere": everywhere})
        said: dict[str, Any] = {"object": "cache.purge", "what": wanted.what, "everywhere": everywhere}
        if wanted.value:
            said["value"] = wanted.value
        if not everywhere:
            said["note"] = REDIS_AWAY if caches.report().shared else NO_REDIS
        return said

    @router.post("/admin/cache/reset")
    async def reset(request: Request) -> dict[str, Any]:
        """Have what was measured of a `policy`'s hits by meaning (NAMESPACE/NAME) begin anew: a tier that has turned
        itself off is on again. `everywhere` as for a purge."""
        policy = _policy_of(await request.body())
        everywhere = await caches.reset(f"{CACHE_KIND}/{policy}")
        if everywhere is None:
            raise InvalidRequest(
                "there is no CachePolicy of this name with `semantic` in force", status=404, code="policy_not_found",
                param="policy",
            )  # fmt: skip
        log.info("what was measured of a cache begins anew", extra={"policy": policy, "everywhere": everywhere})
        said: dict[str, Any] = {"object": "cache.reset", "policy": policy, "everywhere": everywhere}
        if not everywhere:
            said["note"] = NOT_TOLD if caches.report().shared else NO_REDIS
        return said

    @router.get("/admin/cache/stats")
    async def stats() -> dict[str, Any]:
        """Say what the caches of this replica have done, and what they hold."""
        report = caches.report()
        policies = {
            id: {
                **report.policies[id].model_dump(mode="json"),
                "evicted": room.memory.evicted,
                "maxBytes": room.memory.max_bytes,
                "maxEntries": room.body.memory.maxEntries,
            }
            for id, room in caches.rooms()
            if id in report.policies
        }
        purges = {"known": len(caches.purges.marks), "untold": caches.purges.pending}
        return {
            "object": "cache.stats", "since": report.since, "shared": report.shared, "bytes": caches.held,
            "maxBytes": caches.limit, "purges": purges, "policies": policies,
        }  # fmt: skip

    @router.get("/admin/cache/entry")
    async def entry(key: str) -> dict[str, Any]:
        """Say what is kept under a key that an answer had as `x-cache-key`: what it is, and not what it says."""
        read = _key_of(key, "key")
        found = await caches.find(read)
        if not found:
            raise InvalidRequest("nothing is kept under this key", status=404, code="entry_not_found", param="key")
        return _described(read, found[0], _full(current))

    return router


def _full(current: Callable[[], Runtime | None]) -> Runtime | None:
    runtime = current()
    return None if runtime is None else runtime.full


def _purge_of(body: bytes, runtime: Runtime | None) -> Purge:
    """Read what is to be purged. Raises InvalidRequest, ModelNotFound."""
    names = ", ".join(What)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(document, dict) or len(document) != 1 or next(iter(document)) not in tuple(What):
        raise InvalidRequest(f"the body must be an object with exactly one of {names}", code="invalid_value")
    ((name, value),) = document.items()
    if name == What.ALL:
        if value is not True:
            raise _invalid(name, "must be true")
        return Purge(What.ALL)
    if not isinstance(value, str) or not 0 < len(value) <= MOST_NAME:
        raise _invalid(name, f"must be a string of 1 to {MOST_NAME} characters")
    if name == What.ENTRY:
        return Purge(What.ENTRY, _key_of(value, name).text)
    return Purge(What.MODEL, _model_id(value, runtime)) if name == What.MODEL else Purge(What.TENANT, value)


def _policy_of(body: bytes) -> str:
    """Read which policy is meant. Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is no JSON") from None
    if not isinstance(document, dict) or list(document) != ["policy"]:
        raise InvalidRequest("the body must be an object with exactly `policy`", code="invalid_value")
    policy = document["policy"]
    if not isinstance(policy, str) or not 0 < len(policy) <= MOST_NAME or policy.count("/") != 1:
        raise _invalid("policy", "must be the namespace and the name of a CachePolicy, with a slash between them")
    return policy


def _key_of(text: str, param: str) -> CacheKey:
    key = read_key(text)
    if key is None:
        raise _invalid(param, "must be a key as answers have it as `x-cache-key`")
    return key


def _model_id(name: str, runtime: Runtime | None) -> str:
    """Give the id of a model by it, or by a name that clients use."""
    model = None if runtime is None else runtime.find(name) or runtime.by_id.get(name)
    if model is None:
        raise ModelNotFound("there is no such model", param="model")
    return model.id


def _described(key: CacheKey, found: tuple[str, Tier, Entry], runtime: Runtime | None) -> dict[str, Any]:
    policy, tier, entry = found
    models = () if runtime is None else [model.id for model in runtime.tracks]
    usage = entry.usage
    return {
        "object": "cache.entry", "key": key.text, "policy": policy, "tier": tier, "form": entry.form,
        "model": next((id for id in models if model_of(id) == key.model), None), "bytes": len(entry.body),
        "created": entry.created_ms // 1000, "expires": entry.expires_ms // 1000,
        "age": max(int(time.time() * 1000) - entry.created_ms, 0) // 1000,
        "promptTokens": None if usage is None else usage.prompt_tokens,
        "completionTokens": None if usage is None else usage.completion_tokens, "nanoDollars": entry.nano_dollars,
    }  # fmt: skip


def _invalid(name: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{name}` {must}", code="invalid_value", param=name)
