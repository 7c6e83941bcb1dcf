"""A real gateway in the test's own loop: its own server on a free port, its config in a directory."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from capstan_contract.config import (
    ExternalBackend,
    ExternalEndpoint,
    GatewayConfig,
    ModelEntry,
    PolicyEntry,
    Provider,
    StaticBackend,
)
from capstan_contract.keys import KeyEntry
from capstan_contract.sharding import split_config
from capstan_gateway.composition import Gateway
from capstan_gateway.limits.port import Limiter
from capstan_gateway.pipeline.policies import PolicyKind
from capstan_gateway.process import listen
from capstan_gateway.serving.listener import Listener
from capstan_gateway.settings import Settings
from capstan_gateway.surface import api_listener
from support.counts import kept
from support.keys import SALT
from support.ports import free_port
from support.wait import eventually


def entry(name: str, *urls: str, **fields: Any) -> ModelEntry:
    """Give a model at fixed URLs, known to its engine by its served name."""
    given = {
        "id": f"test/{name}",
        "generation": 1,
        "servedName": name,
        "upstreamName": name,
        "created": 1_700_000_000,
        "backend": StaticBackend(urls=urls),
        **fields,
    }
    return ModelEntry(**given)


def hosted_by(provider: Provider, url: str, *, key: str | None = "key") -> ExternalBackend:
    """Give the backend of a model that this API hosts at one address, with the file of its key."""
    endpoint = ExternalEndpoint(name="main", url=f"{url}/v1", credentialFile=key)
    return ExternalBackend(provider=provider, endpoints=(endpoint,))


def write_config(
    directory: Path,
    models: Iterable[ModelEntry],
    *,
    keys: Iterable[KeyEntry] = (),
    policies: Iterable[PolicyEntry] = (),
) -> GatewayConfig:
    """Write the config of these models as the operator's local mode does: each file whole, the main one last."""
    config = GatewayConfig.build(tuple(models), keys=keys, key_salt=SALT, policies=policies)
    documents = split_config(config)
    for name in sorted(documents, key=lambda name: name == "config.json"):
        fresh = directory / f"{name}.tmp"
        fresh.write_text(documents[name])
        fresh.rename(directory / name)
    return config


class RunningGateway:
    """What a test sees of the gateway that it started."""

    def __init__(self, gateway: Gateway, listener: Listener, directory: Path, port: int) -> None:
        self.gateway = gateway
        self.listener = listener
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.port = port

    def client(self, **options: Any) -> AsyncOpenAI:
        """Give the official client, without retries unless asked for."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", **{"api_key": "unused", "max_retries": 0, **options})

    async def configure(
        self, *models: ModelEntry, keys: Iterable[KeyEntry] = (), policies: Iterable[PolicyEntry] = ()
    ) -> None:
        """Write a config and wait until it is in use."""
        config = write_config(self.directory, models, keys=keys, policies=policies)
        await eventually(
            lambda: (runtime := self.gateway.current()) is not None and runtime.hash == config.hash,
            what="the new config",
        )

    def metric(self, name: str, **labels: str) -> float:
        """Give the value of one sample; 0 when it is not there."""
        return self.gateway.metrics.registry.get_sample_value(name, labels) or 0.0

    async def settled(self) -> None:
        """Wait until no request is in flight."""
        await eventually(lambda: len(self.gateway.requests) == 0, what="the end of all requests")


@asynccontextmanager
async def running_gateway(
    directory: Path,
    *models: ModelEntry,
    credentials: dict[str, str] | None = None,
    kinds: Sequence[PolicyKind[Any]] = (),
    keys: Iterable[KeyEntry] = (),
    policies: Iterable[PolicyEntry] = (),
    limiter: Limiter | None = None,
    **settings: Any,
) -> AsyncIterator[RunningGateway]:
    """Start a gateway on these models; end it, and see that it leaves no request behind.

    It serves everybody, unless `insecure_no_auth=False` is among the settings.
    """
    config_dir = directory / "config"
    config_dir.mkdir(exist_ok=True)
    if credentials is not None:
        files = directory / "credentials"
        files.mkdir(exist_ok=True)
        for name, key in credentials.items():
            (files / name).write_text(key)
        settings["credentials_dir"] = files
    port = free_port()
    options = {
        "config_dir": config_dir,
        "insecure_no_auth": True,
        "port": port,
        "policy_loopback": True,
        "log_level": "warning",
        "engine_metrics_seconds": 0.0,
        "probe_seconds": 0.0,  # Tests count what they send; those of the probes turn them on.
        # What does not come in these times is done without: a busy machine is not to decide that.
        "count_seconds": 10.0,
        "kv_token_seconds": 60.0,
        "redis_seconds": 10.0,
        "redis_limit_seconds": 10.0,
        **settings,
    }
    gateway = Gateway(Settings(**options), kinds=kinds, limiter=limiter)
    async with kept(limiter), gateway.running():
        listener = await listen(api_listener(gateway), gateway.settings, port)
        running = RunningGateway(gateway, listener, config_dir, port)
        try:
            if models:
                await running.configure(*models, keys=keys, policies=policies)
            if credentials:
                await eventually(lambda: all(gateway.credentials.key(name) for name in credentials), what="credentials")
            yield running
            await running.settled()
        finally:
            await listener.close(grace_seconds=1.0)
