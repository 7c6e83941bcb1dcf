"""All of kopf: its settings, its login, its handlers. kopf watches and wakes; it never writes to an object.

Only `on.event` handlers, which leave no trace on the objects (no annotation, no finalizer), with server-side label
selectors. No timers, daemons, indexes, peering or Events of kopf's own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

import kopf

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.gateway_config.acknowledge import SERVICE_LABEL
from capstan_operator.kube.auth import authorization, load_configuration, split_header
from capstan_operator.loaders.api_keys import SELECTOR
from capstan_operator.resources.api_resource import (
    CHILD_RESOURCES,
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    PODS,
    SECRETS,
    ApiResource,
)
from capstan_operator.settings import Settings
from capstan_operator.watch.memoryless import NoDiffBase, NoProgress

SERVER_TIMEOUT: Final = 300
CLIENT_TIMEOUT: Final = 310
CHUNK: Final = 500


Handle = Callable[[ApiResource, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Handlers:
    """What is called for the events of each kind."""

    model: Handle
    child: Handle
    gateway: Handle
    api_key: Handle
    policy: Handle
    profiles: Handle


class BuildRegistry(Protocol):
    """Gives the handlers of one run of kopf."""

    def __call__(
        self, settings: Settings, handlers: Handlers, *, on_cleanup: Callable[[], None]
    ) -> kopf.OperatorRegistry:
        """Build one."""
        ...


def build_registry(settings: Settings, handlers: Handlers, *, on_cleanup: Callable[[], None]) -> kopf.OperatorRegistry:
    """Give a registry of our own with every handler: kopf's default one would log in by itself."""
    registry = _new_registry(on_cleanup)
    _watch(registry, LLM_MODELS, handlers.model)
    for kind in (*CHILD_RESOURCES, PODS):
        _watch(registry, kind, handlers.child)
    if settings.build.gateway_service:
        _watch(registry, ENDPOINT_SLICES, handlers.gateway)
    return registry


def build_key_registry(
    settings: Settings,  # noqa: ARG001  # as BuildRegistry has it
    handlers: Handlers,
    *,
    on_cleanup: Callable[[], None],
) -> kopf.OperatorRegistry:
    """Give the registry of the run that watches API keys, in the install namespace alone: nowhere else may, or need,
    Secrets be watched."""
    registry = _new_registry(on_cleanup)
    _watch(registry, SECRETS, handlers.api_key)
    return registry


def build_profile_registry(
    settings: Settings,  # noqa: ARG001  # as BuildRegistry has it
    handlers: Handlers,
    *,
    on_cleanup: Callable[[], None],
) -> kopf.OperatorRegistry:
    """Give the registry of the run that watches ConfigMaps with profiles, in the install namespace: they are the
    platform team's, and carry no labels of ours but the one that says what they are."""
    registry = _new_registry(on_cleanup)
    _watch(registry, CONFIG_MAPS, handlers.profiles)
    return registry


def policy_registry(kind: ApiResource) -> BuildRegistry:
    """Give what builds the registry of the run that watches the policies of a kind: where their CRD is not installed,
    or a right is missing, the watches of models and of other policies go on."""

    def build(
        settings: Settings,  # noqa: ARG001  # as BuildRegistry has it
        handlers: Handlers,
        *,
        on_cleanup: Callable[[], None],
    ) -> kopf.OperatorRegistry:
        registry = _new_registry(on_cleanup)
        _watch(registry, kind, handlers.policy)
        return registry

    return build


def _new_registry(on_cleanup: Callable[[], None]) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="login")
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info()

    @kopf.on.cleanup(registry=registry, id="cleanup")
    async def cleanup(**_: Any) -> None:
        on_cleanup()

    return registry


def _watch(registry: kopf.OperatorRegistry, kind: ApiResource, handle: Handle) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")
    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        handle(kind, event)


def build_kopf_settings(
    settings: Settings, selectors: Mapping[ApiResource, str] = MappingProxyType({})
) -> kopf.OperatorSettings:
    """Give kopf's settings; each line is there for a reason that its documentation does not make obvious. `selectors`
    are of a run that watches other objects of a kind than the models' run does."""
    configured = kopf.OperatorSettings()
    configured.peering.standalone = True  # peering is no lock; the lease is
    configured.posting.enabled = False  # Events are written by kube/events.py, counted instead of repeated
    configured.posting.loggers = False
    configured.scanning.disabled = True  # no RBAC for namespaces and CRDs needed; the CRD is waited for at start
    configured.watching.server_timeout = SERVER_TIMEOUT  # a frozen stream ends in any case
    configured.watching.client_timeout = CLIENT_TIMEOUT
    configured.watching.chunk_size = CHUNK
    configured.queueing.idle_timeout = 1.0  # one task per object that moves: let go of it soon
    configured.queueing.exit_timeout = 0.5
    configured.persistence.diffbase_storage = NoDiffBase()
    configured.persistence.progress_storage = NoProgress()
    configured.networking.request_timeout = 30.0
    configured.networking.error_backoffs = (0.5, 1.0, 2.0)  # then the supervisor says so, and begins again
    configured.process.ultimate_exiting_timeout = None  # else kopf kills the process when it ended by an error
    for kind in (*CHILD_RESOURCES, PODS):
        configured.watching.label_selectors[_selector(kind)] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
    configured.watching.label_selectors[_selector(ENDPOINT_SLICES)] = (
        f"{SERVICE_LABEL}={settings.build.gateway_service}"
    )
    configured.watching.label_selectors[_selector(SECRETS)] = SELECTOR
    for kind, selector in selectors.items():
        configured.watching.label_selectors[_selector(kind)] = selector
    return configured


def watched_namespaces(settings: Settings) -> tuple[str, ...]:
    """Give the namespaces to work in; empty for all. The install namespace is always one: the gateway is there."""
    if not settings.watch_namespaces:
        return ()
    return tuple(sorted({*settings.watch_namespaces, settings.build.install_namespace}))


async def connection_info() -> kopf.ConnectionInfo:
    """Log kopf in with the same credentials as our own client, read afresh: called again after every 401."""
    configuration = await load_configuration()
    scheme, token = split_header(await authorization(configuration))
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy,
        scheme=scheme,
        token=token,
    )


def _selector(kind: ApiResource) -> tuple[str, str, str]:
    return kind.group, kind.version, kind.plural
