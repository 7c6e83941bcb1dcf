"""Puts the process together: every long-lived object is made here, once, and given to whoever needs it."""

import asyncio
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from capstan_contract.config import GatewayConfig, with_canaries
from capstan_contract.guards import GUARD_KIND
from capstan_contract.names import AUTO
from capstan_contract.queue.wire import Packing
from capstan_contract.requirements import KNOWN
from capstan_contract.tracks import ExperimentsReport
from capstan_gateway.background.room import BackgroundRoom
from capstan_gateway.batches.room import BatchRoom
from capstan_gateway.caches.answered import Answered
from capstan_gateway.caches.room import SharedCaches
from capstan_gateway.config.credentials import Credentials
from capstan_gateway.config.directory import DirectorySource
from capstan_gateway.config.kubernetes import ConfigMapSource
from capstan_gateway.config.kubernetes_credentials import SecretSource
from capstan_gateway.config.privacy_key import PrivacyKeyFile
from capstan_gateway.config.runtime import Runtime, compile_runtime
from capstan_gateway.config.store import ConfigStore, Prepared
from capstan_gateway.dialects.targets.private import Pseudonyms
from capstan_gateway.discovery.table import EndpointTable
from capstan_gateway.discovery.watcher import SliceIndex, SliceWatcher
from capstan_gateway.feedback.room import FeedbackRoom
from capstan_gateway.identity.admin_key import AdminKey
from capstan_gateway.identity.gate import Gate
from capstan_gateway.identity.issuer import Issuer
from capstan_gateway.identity.oidc import make_tokens, notes
from capstan_gateway.identity.published import TLS_NAME as OIDC_TLS_NAME
from capstan_gateway.images.addresses import is_for_policies, is_public
from capstan_gateway.images.fetch import FetchRules, ImageFetcher
from capstan_gateway.kubeapi.client import TLS_NAME, KubeClient, api_endpoint
from capstan_gateway.life.jobs import Job, Jobs
from capstan_gateway.life.lifecycle import Closing, Lifecycle, Phase
from capstan_gateway.life.refusals import Refusals
from capstan_gateway.life.threads import Threads
from capstan_gateway.limits.port import Limiter
from capstan_gateway.limits.room import Counting, make_counting
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.memory_limit import default_budget
from capstan_gateway.pipeline.arms import report as report_experiments
from capstan_gateway.pipeline.arms import with_feedback
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.caches.kind import Caches
from capstan_gateway.pipeline.caches.likeness import Likeness, packaged
from capstan_gateway.pipeline.caches.needs import Shared as SharedByCaches
from capstan_gateway.pipeline.caches.needs import unix_ms
from capstan_gateway.pipeline.counted import Comparison
from capstan_gateway.pipeline.demand import Demand
from capstan_gateway.pipeline.deps import Deps, Outside
from capstan_gateway.pipeline.guards.audit import Audit
from capstan_gateway.pipeline.guards.compiled import Compiler
from capstan_gateway.pipeline.guards.kind import Guards
from capstan_gateway.pipeline.guards.lanes import Lanes
from capstan_gateway.pipeline.guards.needs import Shared as SharedByGuards
from capstan_gateway.pipeline.guards.shadow import Shadows
from capstan_gateway.pipeline.limits.exact import ExactCounts
from capstan_gateway.pipeline.limits.kind import RateLimits
from capstan_gateway.pipeline.limits.needs import Shared
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.policies import Policies, PolicyKind
from capstan_gateway.pipeline.probed import ProbeTargets
from capstan_gateway.pipeline.prompt_blocks import Prompts
from capstan_gateway.pipeline.sampling.kind import Samples
from capstan_gateway.pipeline.sampling.room import SampleRoom
from capstan_gateway.pipeline.split import Splits
from capstan_gateway.pipeline.tracks import Tries
from capstan_gateway.pipeline.watch import InFlight
from capstan_gateway.queueing.made import make_queues, queue_dispatcher
from capstan_gateway.queueing.urgency import Urgency, read_tiers
from capstan_gateway.routing.budget import RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.hedge import HedgeSettings, Hedging
from capstan_gateway.routing.held_blocks import HeldBlocks
from capstan_gateway.routing.hit_rates import HitRates
from capstan_gateway.routing.kv_listening import KVListening
from capstan_gateway.routing.probe import Prober
from capstan_gateway.routing.probing import ProbeSettings
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.selection.route_memory import RouteMemory
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.serving.turned_away import TurnedAway
from capstan_gateway.settings import Settings
from capstan_gateway.stores.room import make_stores
from capstan_gateway.telemetry.auditlog import AuditLog
from capstan_gateway.telemetry.cells import NumberFamily
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.telemetry.requestlog import RequestLog
from capstan_gateway.telemetry.tenants import TenantMetrics
from capstan_gateway.tokenizers.shelf import Shelf
from capstan_gateway.tokens.counter import NO_COUNTERS
from capstan_gateway.tokens.price import to_nano
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.tls import context_for_authority
from capstan_process.settings import SettingsError

_OUTSIDE_LIMITS: Final = Limits(head_bytes=16 * 1024, header_count=100, connections=64, idle_connections=8)


class Gateway:
    """One gateway: what is shared by all requests, and the work in the background. Make it inside the loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        rng: random.Random | None = None,
        kinds: Sequence[PolicyKind[Any]] = (),
        limiter: Limiter | None = None,
    ) -> None:
        self.settings = settings
        self._rng = rng or random.Random()  # noqa: S311 - jitter and choice of endpoints, not secrets
        self.metrics = Metrics()
        self.refusals = Refusals(self._count(self.metrics.refused_objects))
        self.jobs = Jobs(rng=self._rng, on_failure=self._count(self.metrics.job_failures))
        self.lifecycle = Lifecycle()
        """The parts that end in an order; add stores before `running`."""
        self.ids = RequestIds()
        self.memory = MemoryBudget(settings.memory_bytes or default_budget())
        self.requests = InFlight(settings.max_concurrency)
        self.credentials = Credentials(settings.credentials_dir)
        self.admin_key = AdminKey(settings.admin_key_file)
        self.pseudonyms = Pseudonyms()
        limits = Limits(idle_seconds=settings.upstream_keep_alive_seconds)
        self.client = Http1Client(limits=limits, tls=_tls_contexts(settings))
        self.tokens = make_tokens(settings, self.client, rng=self._rng, count=self._count_fetched_keys)
        self.gate = Gate(everybody=settings.insecure_no_auth, tokens=self.tokens)
        self._registry = EndpointRegistry()
        self._index = SliceIndex(
            lambda namespace, service: self.table.service_changed(namespace, service), self.refusals
        )
        self.table = EndpointTable(lambda: EndpointSet(self._registry), self._index.addresses, region=settings.region)
        compiler = Compiler(lambda: self.deps)
        known = KNOWN.reading({GUARD_KIND: compiler.check})
        self.store = ConfigStore(self._compile, self.metrics, known)
        self._watcher: SliceWatcher | None = None
        request_log = self._request_log()
        self._documents = Threads("documents", queued=settings.max_concurrency)
        self._images = _image_fetcher(settings, self._documents)
        self._outside = [
            Http1Client(
                limits=_OUTSIDE_LIMITS, allowed=partial(is_for_policies, loopback=settings.policy_loopback, plain=plain)
            )
            for plain in (False, True)
        ]
        """Ask the services that policies name: by https, and by http."""
        self.stores = make_stores(settings, metrics=self.metrics, budget=self.memory, rng=self._rng)
        self.tokenizers = (
            None
            if settings.tokenizers_dir is None
            else Shelf(settings.tokenizers_dir, count=self._count_tokenizer_fault)
        )
        """Those that were shipped beside the config; None: there is no place for any."""
        self.turned_away = TurnedAway(self.ids, count=self._count_turned_away, write=request_log.write)
        loop = asyncio.get_running_loop()
        self._prompts = Prompts(lambda: self.deps, loop.time, seconds=settings.kv_token_seconds)
        self.kv_listening = KVListening(self.client, most_blocks=settings.kv_event_blocks, rng=self._rng)
        tiers = _tiers(settings)
        budget = RetryBudget()
        direct = Dispatcher(self.client, budget=budget, rng=self._rng, hedging=_hedging(settings))
        self.queues = (
            None
            if settings.redis_url is None
            else make_queues(settings, metrics=self.metrics, rng=self._rng, secret_of=self.credentials.key)
        )
        """What waits in Redis for models; None: there is none."""
        self.demand = Demand(self.current, self.queues)
        background = (
            None
            if self.stores.redis is None or self.stores.responses is None
            else BackgroundRoom(
                settings, self.stores.redis, self.stores.responses.bounds, metrics=self.metrics, budget=self.memory,
                threads=self._documents, rng=self._rng,
            )
        )  # fmt: skip
        self.feedback = (
            FeedbackRoom(settings, self.stores.redis, metrics=self.metrics, rng=self._rng)
            if settings.feedback_answers
            else None
        )
        """What clients say of answers; None: nothing."""
        self.deps = Deps(
            later=background,
            given=None if self.feedback is None else self.feedback.given,
            dispatcher=direct
            if self.queues is None
            else queue_dispatcher(direct, self.queues, budget=budget, metrics=self.metrics),
            tiers=None if self.queues is None else tiers,
            comment_seconds=settings.stream_comment_seconds,
            credentials=self.credentials,
            metrics=self.metrics,
            memory=RouteMemory(),
            request_log=request_log,
            budget=self.memory,
            executor=self._documents,
            background=Background(),
            clock=time.monotonic,
            loop_time=loop.time,
            max_body_bytes=settings.max_body_bytes,
            endpoint_wait_seconds=settings.endpoint_wait_seconds,
            pseudonyms=self.pseudonyms,
            tenants=TenantMetrics(self.metrics, settings.tenant_metrics) if settings.tenant_metrics else None,
            images=self._images,
            outside=Outside(secure=self._outside[0], plain=self._outside[1], hosts=settings.policy_hosts),
            responses=self.stores.responses,
            usage=self.stores.counts,
            counters=NO_COUNTERS if self.tokenizers is None else self.tokenizers,
            prompts=self._prompts,
        )
        self._comparison = None if self.tokenizers is None else Comparison(self.deps, self.tokenizers)
        self._counting = (
            make_counting(settings, metrics=self.metrics, rng=self._rng) if limiter is None else Counting.of(limiter)
        )
        self.limits = RateLimits(
            Shared(
                limiter=self._counting.limiter,
                plans=Plans(),
                means=self.deps.means,
                executor=self._documents,
                background=self.deps.background,
                counts=self._exact_counts(),
                slice_tokens=settings.stream_slice_tokens,
                counts_together=limiter is None and settings.redis_url is not None,
            ),
            self.metrics,
        )
        """The policies that limit who asks."""
        self._comparing = Threads("comparing", queued=64)
        self._guarding = Lanes(queued=settings.max_concurrency)
        audit = self._audit_log()
        self.guards = Guards(
            compiler,
            SharedByGuards(
                deps=self.deps,
                lanes=self._guarding,
                audit=Audit(audit.write, self.pseudonyms, enabled=settings.guard_audit),
                shadows=Shadows(
                    self.deps.background, self.memory, nano_dollars=to_nano(settings.guard_shadow_dollars_per_hour)
                ),
            ),
        )
        """The policies that judge what is asked and answered."""
        shared_caches = (
            None
            if settings.redis_url is None
            else SharedCaches(settings, metrics=self.metrics, rng=self._rng, now_ms=unix_ms)
        )
        self.caches = Caches(
            SharedByCaches(
                deps=self.deps,
                likeness=Likeness(packaged, self._comparing),
                ledger_of=(lambda _: None) if shared_caches is None else shared_caches.ledger,
                answered=Answered(now_ms=unix_ms, shared=None if shared_caches is None else shared_caches.ids),
            ),
            secret_of=self.credentials.key,
            entries_of=None if shared_caches is None else shared_caches.of,
            questions_of=None if shared_caches is None else shared_caches.questions,
            purges=None if shared_caches is None else shared_caches.purges,
        )
        """The policies that give answers again."""
        self.hit_rates = HitRates(
            self.client,
            ProbeTargets(self.current, self.credentials),
            set_ratios=self.metrics.set_kv_cache_hits,
            seconds=settings.engine_metrics_seconds,
        )
        self.background = background
        """Responses in the background; None: none is stored."""
        self.batches = (
            None
            if settings.files_url is None or self.stores.redis is None
            else BatchRoom(
                settings, settings.files_url, self.stores.redis, metrics=self.metrics, budget=self.memory, rng=self._rng
            )
        )
        """Files, and batches of requests from them; None: there is no place for files."""
        self.sampled = self._sample_room()
        """Where answers wait that are to be judged; None: there is no Redis to put them on."""
        self.samples = Samples(self.sampled)
        self.tries = Tries()
        """What was counted of revisions that are tried."""
        splits = Splits(lambda: self.deps, self.tries)
        policies = self.limits, self.guards, self.samples, splits, self.caches
        self._kinds: Sequence[PolicyKind[Any]] = (*policies, *kinds)
        self.metrics.before_collect.append(self._read_gauges)
        self.lifecycle.add(Closing("asks", self.deps.background.close), Phase.WORK)
        self.lifecycle.add(request_log, Phase.OUTBOX)
        self.lifecycle.add(audit, Phase.OUTBOX)
        if self.queues is not None:
            self.lifecycle.add(self.queues, Phase.OUTBOX)
        if self.sampled is not None:
            self.lifecycle.add(self.sampled, Phase.OUTBOX)
        if self.feedback is not None:
            self.feedback.live_in(self.lifecycle)
        self.stores.live_in(self.lifecycle)
        if shared_caches is not None:
            shared_caches.live_in(self.lifecycle)
        self._counting.live_in(self.lifecycle)
        self.lifecycle.add(Closing("upstream", self.client.aclose), Phase.CLIENT)
        for client in self._outside:
            self.lifecycle.add(Closing("outside", client.aclose), Phase.CLIENT)
        if self._images is not None:
            self.lifecycle.add(Closing("images", self._images.aclose), Phase.CLIENT)

    def current(self) -> Runtime | None:
        """Give the Runtime that new requests take."""
        return self.store.runtime

    async def experiments(self) -> ExperimentsReport:
        """Say how the members of weighted routers did."""
        told = report_experiments(self.deps.experiments, self.current)
        return told if self.feedback is None else await with_feedback(told, self.feedback.arms)

    async def finish(self) -> None:
        """Return when nothing is asked any more of which no connection says that it goes on. Only when it drains."""
        if self.background is not None:
            await self.background.finish()

    def drain(self) -> None:
        """Tell load balancers, and clients with every answer, to go elsewhere; requests are still served."""
        self.requests.draining = True

    def not_ready(self) -> str | None:
        """Say why requests should not come here; None when they should."""
        if self.jobs.given_up is not None:
            return f"background work failed: {self.jobs.given_up}"
        if self.requests.draining:
            return "draining"
        if self.store.runtime is None:
            return "no config yet"
        if self._watcher is not None and not self._watcher.synced:
            return "endpoints not yet known"
        return self.lifecycle.not_ready()

    def notes(self) -> tuple[str, ...]:
        """Say what is wrong and keeps no request away: work that is begun anew, objects that are refused."""
        failing = (f"work that failed is tried again: {job}" for job in self.jobs.failing)
        return (
            *failing, *self.refusals.notes, *self.stores.notes, *self._counting.notes(), *notes(self.tokens),
            *(() if self.tokenizers is None else self.tokenizers.notes()),
            *(() if self.queues is None else self.queues.packings.notes()),
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do the background work while the block lasts; then end all parts in their order.

        When work fails again and again, `jobs.is_given_up` is set: who listens is to drain and to end.
        """
        jobs = [
            Job("requests", self.requests.run),
            Job("credentials", self.credentials.run),
            Job("privacy-key", PrivacyKeyFile(self.settings.privacy_key_file, self.pseudonyms).run),
            Job("admin-key", self.admin_key.run),
            Job("probes", self._prober().run),
            Job("hit-rates", self.hit_rates.run),
            Job("kv-events", self.kv_listening.run),
            Job("kept-prompts", self._prompts.run),
            Job("demand", self.demand.run),
            *(Job(f"oidc {issuer.name}", issuer.run) for issuer in self._issuers()),
            *self._sources(),
        ]
        if self.background is not None:
            jobs.append(Job("background-responses", self.background.run))
        if self.batches is not None:
            jobs.append(Job("batches", self.batches.run))
        if self.tokenizers is not None:
            jobs.append(Job("tokenizers", self.tokenizers.run))
        working = asyncio.create_task(self.jobs.run(jobs))
        living = asyncio.create_task(self.jobs.run(self.lifecycle.jobs))
        try:
            yield
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            # While parts end they still work: what waits in an outbox is written by whoever always writes it.
            await self.lifecycle.aclose()
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            self._documents.close()
            if self.batches is not None:
                self.batches.close()
            self._guarding.close()
            self._comparing.close()
            self.deps.counting.close()
            self._prompts.close()

    def _exact_counts(self) -> ExactCounts | None:
        def count(by: str) -> None:
            self.metrics.limit_prompt_counts.at(by).value += 1

        seconds = self.settings.count_seconds
        return ExactCounts(self.deps, seconds=seconds, on_count=count) if seconds else None

    def _sample_room(self) -> SampleRoom | None:
        if self.stores.redis is None:
            return None

        def count(model_id: str, outcome: str) -> None:
            runtime = self.store.runtime
            model = None if runtime is None else runtime.by_id.get(model_id)
            if model is not None:
                self.metrics.evaluation_samples.at(model.name, outcome).value += 1

        return SampleRoom(
            self.stores.redis, packing=Packing((self.settings.evaluation_secret or "").encode()), budget=self.memory,
            rng=self._rng, count=count, now=time.time, loop_time=asyncio.get_running_loop().time,
            entries=self.settings.evaluation_samples, most_bytes=self.settings.evaluation_sample_bytes,
        )  # fmt: skip

    def _request_log(self) -> RequestLog:
        dropped = self.metrics.outbox_dropped.at(RequestLog.name)

        def count(lines: int) -> None:
            dropped.value += lines

        level, form = self.settings.log_level, self.settings.log_format
        return RequestLog(enabled=level in ("debug", "info"), as_json=form == "json", on_dropped=count)

    def _audit_log(self) -> AuditLog:
        dropped = self.metrics.outbox_dropped.at(AuditLog.name)

        def count(lines: int) -> None:
            dropped.value += lines

        return AuditLog(enabled=self.settings.guard_audit, on_dropped=count)

    @staticmethod
    def _count(family: NumberFamily) -> Callable[[str], None]:
        def count(label: str) -> None:
            family.at(label).value += 1

        return count

    def _prober(self) -> Prober:
        def count(model: str, kind: str, outcome: str) -> None:
            self.metrics.probes.at(model, kind, outcome).value += 1

        settings = ProbeSettings(
            idle_seconds=self.settings.probe_seconds,
            request_seconds=self.settings.probe_request_seconds,
            hosted_requests=self.settings.probe_hosted,
        )
        return Prober(
            self.client,
            ProbeTargets(self.current, self.credentials),
            rng=self._rng,
            count=count,
            settings=settings,
        )

    def _sources(self) -> list[Job]:
        settings = self.settings
        jobs: list[Job] = []
        if settings.config_dir is not None:
            jobs.append(Job("config-directory", DirectorySource(settings.config_dir, self.store).run))
        if settings.kube_namespace is not None and settings.kube_config_map is not None:
            client = KubeClient(
                self.client, api_endpoint(_kube_url(settings)), settings.kube_service_account_dir / "token"
            )
            config_map = ConfigMapSource(
                client,
                namespace=settings.kube_namespace,
                name=settings.kube_config_map,
                store=self.store,
                rng=self._rng,
                refusals=self.refusals,
            )
            jobs.append(Job("config-map", config_map.run))
            if settings.kube_credentials is not None:
                secrets = SecretSource(
                    client,
                    namespace=settings.kube_namespace,
                    name=settings.kube_credentials,
                    credentials=self.credentials,
                    rng=self._rng,
                    refusals=self.refusals,
                )
                jobs.append(Job("credentials-secret", secrets.run))
            namespaces = settings.discovery_namespaces
            self._watcher = SliceWatcher(
                client, self._index, namespaces=namespaces, rng=self._rng, refusals=self.refusals
            )
            jobs.append(Job("endpointslices", self._watcher.run))
        return jobs

    def _compile(self, config: GatewayConfig, previous: Runtime | None) -> Generator[None, None, Prepared]:
        draft = self.table.draft()
        before = None if previous is None else previous.answering
        runtime = yield from compile_runtime(
            config,
            endpoints_of=draft.set_of,
            metrics=self.metrics,
            answering=Policies(
                self._kinds,
                config,
                self.deps,
                previous=before if isinstance(before, Policies) else None,
                comparison=self._comparison,
            ),
            previous=previous,
            auto=self.settings.auto_strategy,
            pseudonyms=self.pseudonyms,
        )

        def commit() -> None:
            endpoints = {model.id: model.endpoints for model in runtime.tracks}
            models = with_canaries(config.models)
            draft.commit(endpoints)
            self.kv_listening.want(endpoints[entry.id] for entry in models if entry.kvEvents and entry.id in endpoints)
            self.tries.retain(config.models)
            self.deps.memory.retain((*runtime.by_id, AUTO))
            self.deps.experiments.retain(runtime.by_id)
            self.limits.retain(config)
            self.guards.retain(config)
            self.caches.retain(config)
            self.samples.retain(config)
            if self.queues is not None:
                self.queues.retain(models)
            if self.tokenizers is not None:
                self.tokenizers.want(models)
                self.metrics.tokenizer_faults.retain("tokenizer", self.tokenizers.names())

        return Prepared(runtime, commit)

    def _issuers(self) -> Iterable[Issuer]:
        return () if self.tokens is None else self.tokens.issuers.values()

    def _count_fetched_keys(self, issuer: str, outcome: str) -> None:
        self.metrics.oidc_fetches.at(issuer, outcome).value += 1

    def _count_tokenizer_fault(self, tokenizer: str, reason: str) -> None:
        self.metrics.tokenizer_faults.at(tokenizer, reason).value += 1

    def _count_turned_away(self, reason: str) -> None:
        self.metrics.rejected.at(reason).value += 1

    def _read_gauges(self) -> None:
        """Read what is kept elsewhere, when Prometheus asks."""
        self.caches.read_gauges()
        self.metrics.memory_held.at().value = self.memory.held
        self.metrics.memory_limit.at().value = self.memory.limit
        self.metrics.memory_refused.at().value = self.memory.refused
        self.metrics.discovery_synced.at().value = float(self._watcher is None or self._watcher.synced)
        if self.tokenizers is not None:
            for kind, models in self.tokenizers.kinds().items():
                self.metrics.tokenizers.at(kind.value).value = models
        if self.store.runtime is None:
            return
        if self.queues is not None:
            self.queues.read_gauges()
        for model in self.store.runtime.models.values():
            model.metrics.queue_depth.value = model.endpoints.waiting
            self.metrics.endpoints.at(model.name).value = len(model.endpoints.states)
        for model in self.store.runtime.by_id.values():
            held = model.endpoints.held
            if held is not None:
                self._read_held(model.name, held)

    def _read_held(self, model: str, held: HeldBlocks) -> None:
        metrics = self.metrics
        told_by = held.told_by()
        metrics.kv_event_streams.at(model).value = len(told_by)
        for reason, times in held.unheard.items():
            metrics.kv_unheard.at(model, reason).value = times
        metrics.kv_blocks.at(model).value = sum(map(held.blocks, told_by))
        metrics.kv_decisions.at(model, "blocks").value = held.exact
        metrics.kv_decisions.at(model, "beginning").value = held.beginnings
        metrics.kv_decisions.at(model, "estimate").value = held.estimated
        metrics.kv_prompt_tokens.at(model).value = held.prompt_tokens
        metrics.kv_expected_hits.at(model).value = held.expected_hits


def _tiers(settings: Settings) -> Mapping[str, Urgency]:
    try:
        return read_tiers(settings.queue_tiers)
    except ValueError as error:
        raise SettingsError(f"--queue-tiers: {error}") from None


def _hedging(settings: Settings) -> Hedging | None:
    if not settings.hedge_percent:
        return None
    return Hedging(
        HedgeSettings(
            share=settings.hedge_percent / 100,
            after_seconds=settings.hedge_after_seconds,
            hosted=settings.hedge_hosted,
        )
    )


def _image_fetcher(settings: Settings, threads: Threads) -> ImageFetcher | None:
    if not settings.image_hosts:
        return None
    rules = FetchRules(
        hosts=settings.image_hosts,
        max_bytes=settings.image_bytes,
        seconds=settings.image_seconds,
        allow_http=settings.image_http,
    )
    return ImageFetcher(rules, threads, allowed=is_public)


def _kube_url(settings: Settings) -> str:
    if settings.kube_url is not None:
        return settings.kube_url
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError("not in a cluster: KUBERNETES_SERVICE_HOST is not set; give --kube-url")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _tls_contexts(settings: Settings) -> dict[str, ssl.SSLContext]:
    known: dict[str, ssl.SSLContext] = {}
    if settings.oidc_ca_file is not None:
        known[OIDC_TLS_NAME] = context_for_authority(str(settings.oidc_ca_file))
    if not settings.watches_kubernetes or not _kube_url(settings).startswith("https"):
        return known
    authority: Path = settings.kube_service_account_dir / "ca.crt"
    if not authority.is_file():
        raise SettingsError(f"the Kubernetes API's certificate authority is missing: {authority}")
    return {**known, TLS_NAME: context_for_authority(str(authority))}
