"""The reconcile of models: one Snapshot for a batch of keys, then each key by itself.

A key that fails never stops another one. What a failure means is decided in failures.py; one that a person has to know
of is shown as Ready=Unknown.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, Final

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.autoscaling.autoscaler import Autoscaler
from capstan_operator.desired.adoption import rollout_state
from capstan_operator.desired.members import named_members
from capstan_operator.desired.model import build_model, is_template_changing, live_deployment
from capstan_operator.desired.naming import workload_name
from capstan_operator.desired.pods import find_child, template_hash
from capstan_operator.desired.prompts import Filled, last_of_children, prompt_keys
from capstan_operator.desired.rollouts.machine import News
from capstan_operator.desired.rollouts.revisions import held_revision
from capstan_operator.desired.scaled_object import ScaledObjectState, read_state
from capstan_operator.desired.shortage import asks_for_nodes
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.starting import start_failure_of
from capstan_operator.desired.types import DesiredModel, Pending
from capstan_operator.errors import Retryable
from capstan_operator.failures import Failure, report
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.prompt_sources import PromptSources, problems_of
from capstan_operator.gateway_config.reconciler import GatewayState
from capstan_operator.kube.declared import apply_declared
from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.events import EventRecorder, Subject
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.snapshot import SnapshotLoader
from capstan_operator.loaders.stable_specs import StableSpecs
from capstan_operator.loop.workqueue import DONE, Outcome, Work
from capstan_operator.metrics import Metrics
from capstan_operator.models.adopter import Adopter
from capstan_operator.models.namesakes import Namesakes, is_child
from capstan_operator.models.pools import PoolWatch
from capstan_operator.models.rollouts import NoCounts, Rollouts, TrackCounts, Turn, is_other_split
from capstan_operator.models.scores import ScoreWatch
from capstan_operator.models.templates import Templates
from capstan_operator.models.told import ToldStandings
from capstan_operator.models.writer import RETRY_REFUSED, ChildWriter, Written
from capstan_operator.resources.api_resource import INFERENCE_POOLS, SCALED_OBJECTS
from capstan_operator.resources.resource import Manifest, ObjectKey, identity_of, is_owned
from capstan_operator.settings import Settings
from capstan_operator.status.compute import compute_status
from capstan_operator.status.standings import Standing, standing_of
from capstan_operator.status.types import StatusResult

log = logging.getLogger(__name__)

SOON: Final = 0.05
"""Seconds until what a status says of a rollout is acted on, once it is written."""
SLICE: Final = 32
"""Templates that are built without letting anybody else in between."""


class ModelReconciler:
    """Reconciles LLMModels."""

    def __init__(
        self,
        kube: KubePort,
        loader: SnapshotLoader,
        settings: Settings,
        *,
        gateway: GatewayState,
        acknowledger: Acknowledger,
        events: EventRecorder,
        wake: Callable[[ObjectKey], None],
        metrics: Metrics,
        adopter: Adopter,
        prompts: PromptSources | None = None,
        autoscaler: Autoscaler,
        scores: ScoreWatch | None = None,
        stable_specs: StableSpecs | None = None,
        counts: TrackCounts | None = None,
        pools: PoolWatch | None = None,
        wake_config: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._loader = loader
        self._settings = settings
        self._gateway = gateway
        self._acknowledger = acknowledger
        self._events = events
        self._wake = wake
        self._metrics = metrics
        self._now = now
        self._adopter = adopter
        self._prompts = prompts or PromptSources(kube)
        self._autoscaler = autoscaler
        self._scores = scores or ScoreWatch("", wake=wake)
        self._pools = pools
        self._wake_config = wake_config
        self._stable_specs = stable_specs or StableSpecs(kube)
        self._rollouts = Rollouts(
            settings.build,
            split=lambda key: acknowledger.split(key),
            counts=counts or NoCounts(),
            scores=self._scores.of,
            is_its_turn=lambda key: adopter.is_granted(key),
        )
        self._templates = Templates()
        self._children = ChildWriter(kube)
        self.told = ToldStandings()

    async def prepare(self, keys: list[ObjectKey]) -> Work[ObjectKey]:
        """List what the keys of a batch need, and give what reconciles one of them."""
        snapshot: Snapshot | KubeError
        filled: Mapping[ObjectKey, Filled] = {}
        try:
            snapshot, filled = await self._load(keys)
        except KubeError as error:
            snapshot = error
        namesakes = Namesakes(self._kube, cluster_wide=self._loader.is_cluster_wide(keys))

        async def work(key: ObjectKey) -> Outcome:
            return await self._guarded(key, snapshot, namesakes, filled.get(key))

        return work

    async def _load(self, keys: list[ObjectKey]) -> tuple[Snapshot, Mapping[ObjectKey, Filled]]:
        """List what the keys need; of the kept templates those that may be needed in whole. Beside it, the models of
        them with what was found of the prompts that they have in ConfigMaps."""
        snapshot = replace(await self._loader.load(keys), now=self._now())
        snapshot, filled = await self._with_prompts(await self._with_stable_specs(snapshot))
        changing = set()
        for number, key in enumerate(keys):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            model = snapshot.models.get(key)
            if model and is_template_changing(model, snapshot, self._settings.build, template=self._templates):
                changing.add(key)
        if any(asks_for_nodes(snapshot.pods.get(key, ())) for key in keys):
            snapshot = await self._loader.with_places(snapshot)
        return (await self._loader.with_templates(snapshot, changing) if changing else snapshot), filled

    async def _with_stable_specs(self, snapshot: Snapshot) -> Snapshot:
        """Give each model with the spec that its stable pods follow from, where a rollout in steps is on its way."""
        holding = {key: model for key, model in snapshot.models.items() if held_revision(model)}
        if not holding:
            return snapshot
        await self._stable_specs.read(holding.values())
        unread = {key: Retryable("its stable spec could not be read") for key, model in holding.items()
                  if self._stable_specs.is_unread(model)}  # fmt: skip
        models = {**snapshot.models, **{key: self._stable_specs.applied(model) for key, model in holding.items()}}
        return replace(snapshot, models=models, unread={**unread, **snapshot.unread})

    async def _with_prompts(self, snapshot: Snapshot) -> tuple[Snapshot, Mapping[ObjectKey, Filled]]:
        naming = {key: model for key, model in snapshot.models.items() if prompt_keys(model)}
        if not naming:
            return snapshot, {}
        await self._prompts.read(naming.values())
        last = {key: last_of_children(key.name, snapshot.children.get(key, ())) for key in naming}
        filled = {key: self._prompts.fill(model, last[key]) for key, model in naming.items()}
        # NB: pods without a prompt that is there would be replaced a moment later.
        unread = {key: Retryable("its prompts could not be read") for key, one in filled.items() if one.lacks_unread}
        models = {**snapshot.models, **{key: one.model for key, one in filled.items()}}
        return replace(snapshot, models=models, unread={**unread, **snapshot.unread}), filled

    async def _guarded(
        self, key: ObjectKey, snapshot: Snapshot | KubeError, namesakes: Namesakes, filled: Filled | None
    ) -> Outcome:
        started = monotonic()
        result, outcome = "cancelled", DONE
        try:
            if isinstance(snapshot, KubeError):
                raise snapshot
            outcome = Outcome(after=await self._reconcile(key, snapshot, namesakes, filled))
            result = "ok"
        except Exception as error:  # noqa: BLE001  # sorted there, and logged with its traceback when it is a bug
            failure = report(error, log=log, metrics=self._metrics, model=str(key))
            result, outcome = failure.result, failure.outcome
            if failure.reason:
                await self._confess(key, failure)
        finally:
            # NB: a run that the queue ends by its deadline, too: turns wait for nobody who cannot be looked at.
            if result != "ok":
                self._adopter.give_up(key)
        self._metrics.reconciles.labels("model", result).inc()
        self._metrics.reconcile_seconds.labels("model").observe(monotonic() - started)
        return outcome

    async def _reconcile(
        self, key: ObjectKey, snapshot: Snapshot, namesakes: Namesakes, filled: Filled | None
    ) -> float | None:
        """Bring one model to what it should be; give the seconds after which to look again."""
        if unread := snapshot.unread.get(key):
            raise unread
        model = snapshot.models.get(key)
        if model is None or model.deleting:
            self.told.forget(key)
            self._autoscaler.forget(key)
            self._scores.forget(key)
            self._adopter.report(key, None)
            self._rollouts.forget(key)
            self._note_pool(key, ())
            return None
        # NB: only what this model needs: the rest of the batch must not reach its status by accident.
        needed = {key, *(member for _, member in named_members(model))}
        own = Snapshot(
            models={key: found for key, found in snapshot.models.items() if key in needed},
            children={key: snapshot.children.get(key, ())},
            autoscalers=snapshot.autoscalers,
            scaled_objects=snapshot.scaled_objects,
            inference_pools=snapshot.inference_pools,
            pods={key: snapshot.pods.get(key, ())},
            revisions=None if snapshot.revisions is None else {key: snapshot.revisions.get(key, ())},
            claims=snapshot.claims,
            mounted=snapshot.mounted,
            places=snapshot.places,
            now=snapshot.now,
        )
        before = _scaled_object_of(model, own)
        turn, own = self._rollouts.begin(model, own)
        own, written, desired = await self._write_children(turn, own, namesakes)
        desired = self._without_refused(turn, own, written, desired)
        desired = self._rollouts.waiting(turn, desired)
        self._adopter.report(key, self._rollouts.place(turn, rollout_state(model, desired, own)))
        self._note_pool(key, own.children[key], could_list=own.inference_pools)
        live, pods = live_deployment(key, own), own.pods[key]
        if desired.faults:
            self._autoscaler.look(model, live, pods=pods)
        else:
            # NB: one that was deleted here is there until KEDA has let go of it; the next look says so.
            scaled_object = _scaled_object_of(model, own) or before
            self._autoscaler.tell(
                model, live, pods=pods, may_have_hpa=snapshot.autoscalers, scaled_object=scaled_object
            )
        for notice in written.notices:
            self._events.record(_subject(model), "Warning", "FieldsNotKept", notice)
        judged = self._gateway.verdict(model)
        if judged is None:
            return None  # the config lane has not compiled this generation yet, and wakes the model when it has
        acknowledgement = self._acknowledger.acknowledgement(
            key, uid=model.uid, generation=model.generation, served=judged.verdict.served
        )
        problems = [*written.problems, *((judged.problem,) if judged.problem else ())]
        problems += () if filled is None else problems_of(filled)
        self._scores.look(model)
        decision = self._rollouts.decide(turn, own, desired, self._now())
        result = compute_status(
            self._rollouts.stable(turn, own, self._now()),
            desired,
            own,
            judged.verdict,
            acknowledgement,
            self._now(),
            problems=problems,
            settings=self._settings.build,
            scaled=self._autoscaler.scaled(key),
            scores=self._scores.of(key),
            steps=decision.memory,
        )
        await self._write_status(
            model, result, decision.news, is_in_config=is_other_split(turn.memory, decision.memory)
        )
        self._tell_dependents(key, standing_of(result.status))
        return _recheck(result, written, SOON if decision.memory != turn.memory else decision.after)

    async def _write_children(
        self, turn: Turn, own: Snapshot, namesakes: Namesakes
    ) -> tuple[Snapshot, Written, DesiredModel]:
        """Bring the children to what is desired; give the snapshot as it then is. Nobody else's object is touched."""
        model = turn.model
        children = tuple(child for child in own.children[model.key] if is_child(child, model.uid))
        own = replace(own, children={model.key: children})
        desired = self._build(turn, own)
        revisions = tuple(item for item in (own.revisions or {}).get(model.key, ()) if is_owned(item, model.uid))
        there = {identity_of(item) for item in (*children, *revisions)}
        found = await namesakes.find(model, [item for item in desired.objects if identity_of(item) not in there])
        if lost := tuple(item for item in found if is_owned(item, model.uid)):
            # Ours, without the labels that we list by: what is desired can depend on it like on any other child.
            children += lost
            own = replace(own, children={model.key: children})
            desired = self._build(turn, own)
        taken = {identity_of(item): item for item in found if not is_owned(item, model.uid)}
        written = await self._children.write(model, desired, (*children, *revisions), taken=taken)
        return replace(own, children={model.key: tuple(written.live.values())}), written, desired

    def _note_pool(self, key: ObjectKey, children: Iterable[Manifest], *, could_list: bool = True) -> None:
        if self._pools is not None:
            has_pool = any(child["kind"] == INFERENCE_POOLS.kind for child in children)
            self._pools.note(key, has_pool=has_pool, could_list=could_list)

    def _without_refused(self, turn: Turn, own: Snapshot, written: Written, desired: DesiredModel) -> DesiredModel:
        """Give what is in force where the template that the model was to take up was refused: it waits again, and what
        serves is what its spec asks for."""
        model = turn.model
        live = live_deployment(model.key, own)
        problem = written.refused.get(identity_of(live)) if live else None
        if problem and live and template_hash(live) != desired.pod_hash:
            kept = self._build(turn, own, adopt=False)
            if kept.pending is Pending.ADOPTION:
                written.problems.remove(problem)
                self._adopter.refuse(model.key, replace(problem, partial=True))
                desired = kept
        if desired.pending is Pending.ADOPTION and (known := self._adopter.refusal(model.key)):
            written.problems.append(known)
        return desired

    def _build(self, turn: Turn, own: Snapshot, *, adopt: bool | None = None) -> DesiredModel:
        key, now, settings = turn.model.key, self._now(), self._settings.build
        adopts = self._adopter.is_granted(key) if adopt is None else adopt
        model, scaler = self._rollouts.stable(turn, own, now), self._autoscaler.says(key)
        build = partial(build_model, model, own, settings, adopt=adopts, scaler=scaler, template=self._templates)
        desired = build()
        beside = self._rollouts.beside(turn, own, desired, now)
        return build(beside=beside) if beside else desired

    def _tell_dependents(self, key: ObjectKey, standing: Standing) -> None:
        """Wake the virtual models that name this one, when what matters to them is not what it was."""
        if not self.told.is_news(key, standing):
            return
        for dependent in sorted(self._gateway.dependents.get(key, ())):
            self._wake(dependent)

    async def _write_status(
        self, model: Model, result: StatusResult, news: Iterable[News] = (), *, is_in_config: bool = False
    ) -> None:
        """Write it if it has changed; `is_in_config`: the gateway's config says what is new in it."""
        if not result.changed:
            return
        written = await apply_declared(self._kube, _status_manifest(model, dict(result.status)))
        if is_in_config or start_failure_of(result.status) != start_failure_of(model.status):
            # NB: a list of all models that does not show it yet is too old for the config.
            self._kube.versions.saw(LLM_MODELS, written)
            self._wake_config()
        for transition in result.transitions:
            log.info(
                "condition changed",
                extra={"model": str(model.key), "generation": model.generation, "reason": transition.reason},
            )
            self._events.record(_subject(model), transition.type, transition.reason, transition.message)
        for one in news:
            log.info("rollout goes on", extra={"model": str(model.key), "reason": one.reason})
            self._events.record(_subject(model), one.type, one.reason, one.message)

    async def _confess(self, key: ObjectKey, failure: Failure) -> None:
        """Show a failure of the operator on the object: what it says otherwise may no longer be true."""
        try:
            model = await self._loader.find_model(key)
            if model is None or model.deleting:
                return
            status = status_of_failure(model, self._now(), failure)
            if status != dict(model.status):
                await apply_declared(self._kube, _status_manifest(model, status))
        except KubeError as error:
            log.warning("could not write the status", extra={"model": str(key), "error": str(error)})


def _scaled_object_of(model: Model, own: Snapshot) -> ScaledObjectState | None:
    """Give what KEDA says of the ScaledObject that a model has; None where it has none."""
    found = find_child(own.children.get(model.key, ()), SCALED_OBJECTS.kind, workload_name(model.key.name))
    return read_state(found) if found and is_child(found, model.uid) else None


def status_of_failure(model: Model, now: datetime, failure: Failure) -> dict[str, Any]:
    """Give the present status with Ready=Unknown; everything else stays as it was last known."""
    conditions = [dict(condition) for condition in model.status.get("conditions") or ()]
    present = next((condition for condition in conditions if condition.get("type") == "Ready"), None)
    ready = {
        "type": "Ready",
        "status": "Unknown",
        "reason": failure.reason,
        "message": failure.message,
        "observedGeneration": model.generation,
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if present is not None and present.get("status") == "Unknown":
        ready["lastTransitionTime"] = present.get("lastTransitionTime", ready["lastTransitionTime"])
    others = [condition for condition in conditions if condition.get("type") != "Ready"]
    return {**model.status, "conditions": [*others, ready]}


def _recheck(result: StatusResult, written: Written, rollout: float | None = None) -> float | None:
    times = [one for one in (result.recheck_after, rollout) if one is not None]
    return min([*times, RETRY_REFUSED] if written.problems else times, default=None)


def _status_manifest(model: Model, status: dict[str, Any]) -> Manifest:
    # NB: the uid is a precondition: a model deleted and made again in the meantime must not get this status.
    metadata = {"name": model.key.name, "namespace": model.key.namespace, "uid": model.uid}
    return {"apiVersion": API_VERSION, "kind": LLM_MODELS.kind, "metadata": metadata, "status": status}


def _subject(model: Model) -> Subject:
    return Subject(API_VERSION, LLM_MODELS.kind, model.key.namespace, model.key.name, model.uid)
