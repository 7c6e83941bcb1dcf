"""The parts of a running operator, and their tasks. Built once per process; __main__ runs it.

Two groups of tasks. Those of a replica run in every process from its start, leader or not, as health and metrics do:
what serves an API belongs there. Those of the leader run in the one process that holds the lease, and are the only ones
that write, watch and keep lists.
"""

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterable
from time import monotonic
from typing import Final, Literal

from capstan_contract.keys import KEY_PREFIX
from capstan_operator.api.kinds import POLICY_KINDS
from capstan_operator.autoscaling.autoscaler import Autoscaler
from capstan_operator.autoscaling.demand import DemandWatch
from capstan_operator.autoscaling.hpas import HpaWatch
from capstan_operator.backoff import Backoff
from capstan_operator.desired.api_keys import Complaint, KeySecret
from capstan_operator.desired.profiles import PROFILES_SELECTOR
from capstan_operator.failures import report
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.api_keys import GatewayKeys
from capstan_operator.gateway_config.credentials import CredentialStore
from capstan_operator.gateway_config.made_secrets import ADMIN, KEY_BYTES, PRIVACY, REDIS, MadeSecret, scorer_purpose
from capstan_operator.gateway_config.prompt_sources import PromptSources
from capstan_operator.gateway_config.reconciler import GatewayConfigReconciler
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.gateway_config.tracks import TracksWatch
from capstan_operator.keda.presence import Presence
from capstan_operator.keda.scaler import ExternalScaler
from capstan_operator.kube.events import EventRecorder, Subject
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.api_keys import ApiKeys
from capstan_operator.loaders.model_list import ModelList
from capstan_operator.loaders.namespaces import NamespaceWatch, Standing, describe_standing
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.loaders.policy_list import PolicyList
from capstan_operator.loaders.profiles import Profiles
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.loaders.stable_specs import StableSpecs
from capstan_operator.loop.heartbeat import Heartbeat
from capstan_operator.loop.resync import Resync
from capstan_operator.loop.shares import Limits
from capstan_operator.loop.workqueue import DONE, Outcome, Pace, Work, WorkQueue
from capstan_operator.metrics import Metrics
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.metrics_api.place import Place
from capstan_operator.metrics_api.registration import Registration
from capstan_operator.metrics_api.server import MetricsApi
from capstan_operator.models.adopter import Adopter
from capstan_operator.models.pools import PoolWatch
from capstan_operator.models.reconciler import ModelReconciler
from capstan_operator.models.scores import ScoreWatch
from capstan_operator.policies.cached import CachesTally
from capstan_operator.policies.decisions import DecisionsTally
from capstan_operator.policies.reconciler import PolicyReconciler
from capstan_operator.policies.usage import UsageTally
from capstan_operator.policies.watch import CountsWatch, Tally
from capstan_operator.releases import ReleaseCheck
from capstan_operator.resources.api_resource import CONFIG_MAPS, SECRETS, ApiResource
from capstan_operator.resources.resource import ObjectKey, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.upkeep import Upkeep
from capstan_operator.watch.kopf_thread import run_kopf
from capstan_operator.watch.kopf_wiring import (
    build_key_registry,
    build_profile_registry,
    policy_registry,
    watched_namespaces,
)
from capstan_operator.watch.supervisor import WatchSupervisor
from capstan_operator.watch.watches import GATEWAY_CONFIG, Echoes, Watches

log = logging.getLogger(__name__)

CONFIG_PACE: Final = Pace(lead=0.05, quiet=0.2, most=0.8)
"""Faster than the models': a changed name has to be live in the gateway well within 2 s."""
MODEL_PACE: Final = Pace(lead=0.05, quiet=0.3, most=2.0)
KEYS_PACE: Final = Pace(lead=0.02, quiet=0.1, most=0.5)
"""Faster still: a revoked key is to be refused everywhere within a second."""
KEYS_BACKOFF: Final = Backoff(first=0.2, factor=2.0, most=15.0)
READ_KEYS: Final = "read API keys"
WRITE_KEYS: Final = "write API keys"
"""The keys of a lane with two: what is known to be gone is written while others are still being read."""
CONFIG_SECONDS: Final = 120.0
"""Deadline of one run of the config lane."""
MODEL_BATCHES: Final = 2
BATCH_SIZE: Final = 250
BATCH_GAP: Final = 0.25
"""Seconds between the starts of two batches of models: each costs a LIST per kind, however few its keys are."""


class Runtime:
    """Everything but the lease and the health port."""

    def __init__(self, kube: KubePort, settings: Settings, *, metrics: Metrics, echoes: Echoes, identity: str) -> None:
        self._metrics = metrics
        self.models: WorkQueue[ObjectKey] = WorkQueue(
            MODEL_PACE, limits=Limits(workers=settings.workers), group_of=lambda key: key.namespace
        )
        self.config: WorkQueue[str] = WorkQueue(CONFIG_PACE)
        self.policies: WorkQueue[PolicyKey] = WorkQueue(MODEL_PACE, group_of=lambda key: key.namespace)
        self.keys: WorkQueue[str] = WorkQueue(KEYS_PACE, backoff=KEYS_BACKOFF, group_of=lambda key: key)
        self.events = EventRecorder(kube, instance=identity)
        self.namespaces = NamespaceWatch(
            kube, grace=settings.namespace_grace_seconds, on_change=self._namespace_changed
        )
        watched = watched_namespaces(settings)
        home = settings.build.install_namespace
        self.profiles = Profiles(
            kube, namespace=home, tell=self.tell, on_change=self._profiles_changed, metrics=metrics
        )
        self._model_list = model_list = ModelList(
            kube,
            ModelParser(history=lambda: kube.versions.histories),
            namespaces=watched,
            class_name=settings.class_name,
            watch=self.namespaces,
            profiles=self.profiles,
        )
        policy_list = PolicyList(
            kube,
            namespaces=watched,
            class_name=settings.class_name,
            watch=self.namespaces,
            history=lambda: kube.versions.histories,
        )
        loader = SnapshotLoader(
            kube,
            model_list,
            cluster_wide=not watched,
            has_keda=lambda: self.keda_presence.is_installed,
            has_pools=lambda: self.pools.is_installed,
        )
        self._loader = loader
        self._settings = settings
        self.privacy_key = MadeSecret(kube, PRIVACY, name=settings.gateway_privacy_name, namespace=home, tell=self.tell)
        self.redis_password = MadeSecret(kube, REDIS, name=settings.redis_secret_name, namespace=home, tell=self.tell)
        self.admin_key = MadeSecret(kube, ADMIN, name=settings.gateway_admin_name, namespace=home, tell=self.tell)
        self.acknowledger = Acknowledger(
            kube,
            settings,
            wake=self.models.wake,
            metrics=metrics,
            wake_policy=self.policies.wake,
            admin_key=self.admin_key,
        )
        self.credentials = CredentialStore(
            kube, settings, on_change=lambda keys: self.gateway.credentials_changed(keys), metrics=metrics
        )
        self.prompts = PromptSources(kube, on_change=self._prompts_changed)
        self.stable_specs = StableSpecs(kube)
        self.api_keys = ApiKeys(kube, namespace=settings.build.install_namespace)
        self.gateway = GatewayConfigReconciler(
            kube,
            loader,
            settings,
            credentials=self.credentials,
            acknowledger=self.acknowledger,
            wake=self.models.wake,
            is_busy=lambda key: not self.models.is_idle([key]),
            tell=self.tell,
            metrics=metrics,
            keys=GatewayKeys(self.api_keys, metrics=metrics, tell=self.tell_of_secret),
            policies=policy_list,
            wake_policy=self.policies.wake,
            prompts=self.prompts,
            stable_specs=self.stable_specs,
        )
        tallies = (
            UsageTally(),
            DecisionsTally(before=lambda key: policy_list.told(key, "decisions")),
            CachesTally(before=lambda key: policy_list.told(key, "cached")),
        )
        self.counts = {tally.kind: self._counts_of(tally) for tally in tallies}
        self.policy_reconciler = PolicyReconciler(
            kube,
            policy_list,
            settings,
            gateway=self.gateway.state,
            acknowledger=self.acknowledger,
            events=self.events,
            metrics=metrics,
            counts=lambda key: self.counts[key.kind].of(key) if key.kind in self.counts else None,
        )
        self.releases = ReleaseCheck(
            kube,
            metrics=metrics,
            events=self.events,
            namespace=settings.build.install_namespace,
            identity=identity,
        )
        self.adopter = Adopter(loader, settings, wake=self.models.wake, metrics=metrics)
        self.demand = DemandWatch(
            replicas=self._gateways,
            leaving=self._leaving_gateways,
            port=settings.gateway_admin_port,
            is_wanted=lambda: bool(self.autoscaler) or bool(self.loads),
            on_round=self._scale,
            admin_key=self.admin_key,
        )
        place = _metrics_place(settings)
        self.loads = Loads(self.demand.of, find=loader.find_model)
        self.metrics_api = MetricsApi(kube, place, self.loads)
        self.registration = Registration(
            kube,
            place,
            owner=settings.metrics_api_owner,
            is_wanted=self._wants_metrics_api,
            on_authority=self.metrics_api.rouse,
        )
        keda_place = _keda_place(settings)
        self.external_scaler = ExternalScaler(kube, keda_place, self.loads)
        self.keda_presence = Presence(
            kube,
            keda_place,
            namespaces=watched,
            is_wanted=lambda: self.autoscaler.wants_keda,
            believed=lambda: self.autoscaler.with_scaled_objects,
            wake=self.models.wake,
            on_authority=self.external_scaler.rouse,
        )
        self.pools = PoolWatch(
            kube,
            namespaces=watched,
            is_wanted=settings.build.inference_pools,
            may_be_left=settings.prune_inference_pools,
            wake=self.models.wake,
            models=self._readable_models,
            tell=self.tell,
        )
        self.tracks = TracksWatch(
            replicas=self._gateways,
            wake=self.models.wake,
            port=settings.gateway_admin_port,
            admin_key=self.admin_key,
        )
        self.autoscaler = Autoscaler(
            self.demand.of,
            wake=self.models.wake,
            record=self.events.record,
            standing=lambda: self.registration.standing,
            keda=lambda: self.keda_presence.standing,
            hpas=lambda key: self.hpas.of(key),
        )
        self.hpas = HpaWatch(kube, namespaces=watched, models=lambda: self.autoscaler.models)
        self.scores = ScoreWatch(settings.scorer_url, wake=self.models.wake)
        self.scorer_key = MadeSecret(
            kube, scorer_purpose(settings.scorer_judges), name=settings.scorer_key_name, namespace=home,
            make=lambda: (KEY_PREFIX + secrets.token_hex(KEY_BYTES)).encode(), tell=self.tell,
        )  # fmt: skip
        self.reconciler = ModelReconciler(
            kube,
            loader,
            settings,
            gateway=self.gateway.state,
            acknowledger=self.acknowledger,
            events=self.events,
            wake=self.models.wake,
            metrics=metrics,
            adopter=self.adopter,
            prompts=self.prompts,
            autoscaler=self.autoscaler,
            scores=self.scores,
            stable_specs=self.stable_specs,
            counts=self.tracks,
            pools=self.pools,
            wake_config=self.wake_config,
        )
        self.resync = Resync(
            interval=settings.resync_seconds,
            list_keys=self._list_keys,
            wake=self.models.wake,
            wake_config=self._resync_config,
            is_idle=self._is_through,
        )
        self.watches = Watches(
            wake_model=self.models.wake,
            wake_config=self.wake_config,
            is_compiled=self.gateway.state.is_compiled,
            rouse_acknowledger=self.acknowledger.rouse,
            echoes=echoes,
            versions=kube.versions,
            metrics=metrics,
            saw_key=self.api_keys.saw,
            wake_keys=self.wake_keys,
            is_policy_compiled=self.gateway.state.is_policy_compiled,
            wake_policy=self.policies.wake,
            saw_profiles=self._saw_profiles,
        )
        self.policy_supervisors = {
            kind.name: self._watch_of_policies(kube, kind.api_resource, kind.name) for kind in POLICY_KINDS
        }
        self.key_supervisor = WatchSupervisor(
            kube,
            namespaces=(settings.build.install_namespace,),
            watch=self._watch_keys,
            tell=self.tell,
            metrics=metrics,
            probe=SECRETS,
            what=" for API keys",
        )
        self.profile_supervisor = WatchSupervisor(
            kube,
            namespaces=(home,),
            watch=self._watch_profiles,
            tell=self.tell,
            metrics=metrics,
            probe=CONFIG_MAPS,
            what=" for profiles",
        )
        self.supervisor = WatchSupervisor(
            kube,
            namespaces=watched,
            watch=lambda namespace: run_kopf(settings, self.watches, namespace),
            tell=self.tell,
            metrics=metrics,
        )
        self.heartbeat = Heartbeat()
        self.upkeep = Upkeep(is_busy=lambda: bool(self.models.core.depth or self.models.core.running))
        self._bind_metrics()

    def _prompts_changed(self, models: frozenset[ObjectKey]) -> None:
        self.wake_config()
        for key in sorted(models):
            self.models.wake(key)

    def _profiles_changed(self, names: frozenset[str]) -> None:
        self.wake_config()
        for key in self._model_list.naming(names):
            self.models.wake(key)

    def _saw_profiles(self) -> None:
        """Look at the profiles again: whoever lists models next does so, and tells what has changed."""
        self.profiles.suspect()
        self.wake_config()

    def wake_config(self) -> None:
        """Ask for a run of the config lane."""
        self.config.wake(GATEWAY_CONFIG)

    def wake_keys(self, is_known: bool = False) -> None:
        """Ask for a run of the keys' lane; `is_known`: what has changed is known already, and only to be written."""
        if is_known:
            self.keys.wake(WRITE_KEYS)
        if self.api_keys.has_news:
            self.keys.wake(READ_KEYS)

    def _resync_config(self) -> None:
        self.api_keys.suspect_all()
        self.wake_keys()
        self.wake_config()
        for key in self.gateway.state.policies:
            self.policies.wake(key)

    async def _watch_keys(self, namespace: str | None) -> None:
        self.api_keys.suspect_all()  # what went while nobody watched is in no event
        self.wake_keys()
        await run_kopf(self._settings, self.watches, namespace, build=build_key_registry)

    async def _watch_profiles(self, namespace: str | None) -> None:
        self._saw_profiles()  # what went while nobody watched is in no event
        await run_kopf(
            self._settings,
            self.watches,
            namespace,
            build=build_profile_registry,
            selectors={CONFIG_MAPS: PROFILES_SELECTOR},
        )

    def _watch_of_policies(self, kube: KubePort, kind: ApiResource, name: str) -> WatchSupervisor:
        return WatchSupervisor(
            kube,
            namespaces=watched_namespaces(self._settings),
            watch=lambda namespace: run_kopf(self._settings, self.watches, namespace, build=policy_registry(kind)),
            tell=self.tell,
            metrics=self._metrics,
            probe=kind,
            what=f" for {name} objects",
        )

    def replica_tasks(self) -> dict[str, Coroutine[None, None, None]]:
        """What has to run in every replica, by name."""
        return {
            "heartbeat": self.heartbeat.run(),
            "upkeep": self.upkeep.run(),
            "credential of the admin pages": self.admin_key.follow(),
            "demand": self.demand.run(),
            "metrics API": self.metrics_api.run(),
            "external scaler": self.external_scaler.run(),
        }

    def leader_tasks(self) -> dict[str, Coroutine[None, None, None]]:
        """What has to run in the one that leads, by name."""
        return {
            "config lane": self.config.run(self._prepare_config, batches=1, batch_size=1, deadline=CONFIG_SECONDS),
            "model lane": self.models.run(
                self.reconciler.prepare, batches=MODEL_BATCHES, batch_size=BATCH_SIZE, gap=BATCH_GAP
            ),
            "policy lane": self.policies.run(self.policy_reconciler.prepare, batches=1),
            **{f"watch of {name}": one.run() for name, one in self.policy_supervisors.items()},
            **{f"counts of {name}": one.run() for name, one in self.counts.items()},
            "API keys": self.keys.run(self._prepare_keys, batches=2, batch_size=1, deadline=CONFIG_SECONDS),
            "watch of API keys": self.key_supervisor.run(),
            "watch of profiles": self.profile_supervisor.run(),
            "credentials": self.credentials.run(),
            "counts of tracks": self.tracks.run(),
            "prompts": self.prompts.run(),
            "privacy key": self.privacy_key.run(),
            "admin key": self.admin_key.run(),
            "Redis' password": self.redis_password.run(),
            "scorer's key": self.scorer_key.run(),
            "scores": self.scores.run(),
            "events": self.events.run(),
            "acknowledger": self.acknowledger.run(),
            "adopter": self.adopter.run(),
            "registration of the metrics API": self.registration.run(),
            "presence of KEDA": self.keda_presence.run(),
            "InferencePools": self.pools.run(),
            "autoscalers": self.hpas.run(),
            "resync": self.resync.run(),
            "release check": self.releases.run(),
            "watches": self.supervisor.run(),
        }

    def notes(self) -> list[str]:
        """What a person may want to know of a replica's state, in lines."""
        return [
            f"last complete resync: {self.resync.age:.0f} s ago",
            *self.supervisor.notes(),
            *self.key_supervisor.notes(),
            *self.profile_supervisor.notes(),
            *(note for one in self.policy_supervisors.values() for note in one.notes()),
        ]

    async def _prepare_config(self, _: list[str]) -> Work[str]:
        return self._reconcile_config

    async def _reconcile_config(self, _: str) -> Outcome:
        started = monotonic()
        result, outcome = "ok", DONE
        try:
            outcome = Outcome(after=await self.gateway.reconcile())
        except Exception as error:  # noqa: BLE001  # sorted there, and logged with its traceback when it is a bug
            failure = report(error, log=log, metrics=self._metrics, object="gateway config")
            result, outcome = failure.result, failure.outcome
            if failure.message:
                self.tell("Warning", f"GatewayConfig{failure.reason}", failure.message)
        self._metrics.reconciles.labels("gateway_config", result).inc()
        self._metrics.reconcile_seconds.labels("gateway_config").observe(monotonic() - started)
        return outcome

    async def _prepare_keys(self, _: list[str]) -> Work[str]:
        return self._reconcile_keys

    async def _reconcile_keys(self, key: str) -> Outcome:
        started = monotonic()
        result, outcome = "ok", DONE
        try:
            if key == READ_KEYS:
                await self.gateway.read_keys()
                self.keys.wake(WRITE_KEYS)
                self.wake_keys()
            else:
                await self.gateway.write_keys()
        except Exception as error:  # noqa: BLE001  # sorted there, and logged with its traceback when it is a bug
            failure = report(error, log=log, metrics=self._metrics, object=key)
            result, outcome = failure.result, failure.outcome
            if failure.message:
                self.tell("Warning", f"APIKeys{failure.reason}", failure.message)
        self._metrics.reconciles.labels("api_keys", result).inc()
        self._metrics.reconcile_seconds.labels("api_keys").observe(monotonic() - started)
        return outcome

    async def _list_keys(self) -> list[ObjectKey]:
        """Give the models that a pass of the resync wakes: those whose namespace can be read."""
        listed = await self._loader.all_models()
        keys = [model.key for model in listed.models if model.key.namespace not in listed.unreadable]
        self.adopter.expect(keys)
        self.reconciler.told.keep_only(model.key for model in listed.models)
        self.autoscaler.keep_only(model.key for model in listed.models)
        return keys

    async def _readable_models(self) -> list[ObjectKey]:
        listed = await self._loader.all_models()
        return [model.key for model in listed.models if model.key.namespace not in listed.unreadable]

    def _is_through(self, keys: Iterable[ObjectKey]) -> bool:
        """Whether nothing is left to do for the keys; what a namespace holds up is no fault of the operator."""
        return self.models.is_idle(key for key in keys if not self.models.is_slow(key))

    def tell(self, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """Write an Event about the installation, on the config: the one object that is ours and always there."""
        config = Subject(
            CONFIG_MAPS.api_version,
            CONFIG_MAPS.kind,
            self._settings.build.install_namespace,
            self._settings.gateway_config_name,
            "",
        )
        self.events.record(config, type_, reason, note)

    def tell_of_secret(self, secret: KeySecret, complaint: Complaint) -> None:
        """Write an Event about a Secret."""
        namespace = self._settings.build.install_namespace
        subject = Subject(SECRETS.api_version, SECRETS.kind, namespace, secret.name, secret.uid)
        self.events.record(subject, "Warning", complaint.reason, complaint.message)

    def _namespace_changed(self, namespace: str, standing: Standing, why: str) -> None:
        """Say what became of a namespace."""
        type_: Literal["Normal", "Warning"] = "Normal" if standing is Standing.READABLE else "Warning"
        self.tell(type_, f"Namespace{standing}", describe_standing(namespace, standing, why))
        self.wake_config()
        if standing is Standing.READABLE:
            for key in self.gateway.state.judged:
                if key.namespace == namespace:
                    self.models.wake(key)

    def _policies_in_config(self) -> dict[PolicyKey, str]:
        """Give the policies that a gateway can say something of, with their uids: none where no gateway is known."""
        if not self._settings.build.gateway_service:
            return {}
        return {key: found.uid for key, found in self.gateway.state.policies.items() if found.verdict.in_config}

    def _wants_metrics_api(self) -> bool | None:
        """Whether a model is to have an HPA; None: not all have been looked at yet, and none of those that have."""
        return self.autoscaler.wants_hpas or (False if self.resync.is_through else None)

    def _scale(self) -> None:
        """Decide anew: of models that are scaled here, and of those that HPAs and KEDA ask about."""
        self.autoscaler.step()
        self.loads.step()

    async def _gateways(self) -> tuple[Replica, ...]:
        """Give the gateway's ready replicas; none where no gateway is known."""
        return await self.acknowledger.ready_replicas_now() if self._settings.build.gateway_service else ()

    async def _leaving_gateways(self) -> tuple[Replica, ...]:
        """Give those of the gateway's replicas that may still answer what they were given."""
        return await self.acknowledger.leaving_replicas_now() if self._settings.build.gateway_service else ()

    def _counts_of(self, tally: Tally) -> CountsWatch:
        return CountsWatch(
            tally,
            replicas=self.acknowledger.ready_replicas_now,
            policies=self._policies_in_config,
            wake=self.policies.wake,
            port=self._settings.gateway_admin_port,
            admin_key=self.admin_key,
        )

    def _unwatched(self) -> int:
        supervisors = (self.supervisor, self.key_supervisor, self.profile_supervisor, *self.policy_supervisors.values())
        return len({name for supervisor in supervisors for name in supervisor.unwatched})

    def _bind_metrics(self) -> None:
        lanes = (
            ("models", self.models.core),
            ("gateway_config", self.config.core),
            ("api_keys", self.keys.core),
            ("policies", self.policies.core),
        )
        for name, core in lanes:
            self._metrics.bind(self._metrics.queue_depth, lambda core=core: core.depth, name)  # type: ignore[misc]
            self._metrics.bind(self._metrics.queue_running, lambda core=core: core.running, name)  # type: ignore[misc]
            self._metrics.bind(self._metrics.queue_failing, lambda core=core: core.failing, name)  # type: ignore[misc]
        self._metrics.bind(self._metrics.slow_namespaces, lambda: self.models.shares.slow_groups)
        self._metrics.bind(self._metrics.namespaces_unreadable, lambda: self.namespaces.unreadable)
        self._metrics.bind(self._metrics.resync_age, lambda: self.resync.age)
        self._metrics.bind(self._metrics.unwatched, self._unwatched)
        self._metrics.bind(self._metrics.loop_stall, lambda: self.heartbeat.longest_stall)


def _metrics_place(settings: Settings) -> Place | None:
    if not settings.metrics_api_port:
        return None
    return Place(settings.metrics_api_port, settings.build.install_namespace, settings.metrics_api_service)


def _keda_place(settings: Settings) -> Place | None:
    if not settings.external_scaler_port:
        return None
    return Place(settings.external_scaler_port, settings.build.install_namespace, settings.external_scaler_service)


class Tasks:
    """Tasks that must all live: when one of them ends, for whatever reason, `ended` is set and the others end, too."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.failure: BaseException | None = None
        self.ended = asyncio.Event()

    def problem(self) -> str | None:
        """What is wrong, or None."""
        return None if self.failure is None else f"a part of the operator failed: {type(self.failure).__name__}"

    def start(self, coroutines: dict[str, Coroutine[None, None, None]]) -> None:
        """Start them."""
        for name, coroutine in coroutines.items():
            task = asyncio.create_task(coroutine, name=name)
            task.add_done_callback(self._on_done)
            self._tasks.append(task)

    async def stop(self) -> None:
        """Cancel and await them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        self.failure = self.failure or task.exception() or RuntimeError(f"the task '{task.get_name()}' ended")
        self.ended.set()
        for other in self._tasks:
            other.cancel()
