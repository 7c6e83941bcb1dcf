"""The reconcile of policies: each one's status, from what the config lane has found and the gateway has said."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

from capstan_contract.names import API_VERSION
from capstan_operator.api.kinds import Policy
from capstan_operator.api.ratelimitpolicy import RateLimitPolicySpec
from capstan_operator.failures import report
from capstan_operator.gateway_config.acknowledge import Acknowledger
from capstan_operator.gateway_config.reconciler import GatewayState
from capstan_operator.kube.declared import apply_declared
from capstan_operator.kube.events import EventRecorder, Subject
from capstan_operator.kube.port import KubePort
from capstan_operator.loaders.policy_list import PolicyList
from capstan_operator.loop.workqueue import DONE, Outcome, Work
from capstan_operator.metrics import Metrics
from capstan_operator.policies.usage import budget_news
from capstan_operator.resources.resource import Manifest, PolicyKey
from capstan_operator.settings import Settings
from capstan_operator.status.policy import Ancestor, compute_policy_status
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult

log = logging.getLogger(__name__)

Counts = Callable[[PolicyKey], Mapping[str, Any] | None]
"""Gives what is known of what a policy has done, as its status says it; None: nothing new."""
NO_COUNTS: Final[Counts] = lambda _: None  # noqa: E731


class PolicyReconciler:
    """Writes the status of policies."""

    def __init__(
        self,
        kube: KubePort,
        policies: PolicyList,
        settings: Settings,
        *,
        gateway: GatewayState,
        acknowledger: Acknowledger,
        events: EventRecorder,
        metrics: Metrics,
        counts: Counts = NO_COUNTS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._policies = policies
        self._ancestor = Ancestor.of(settings.build, settings.gateway_config_name)
        self._gateway = gateway
        self._acknowledger = acknowledger
        self._events = events
        self._metrics = metrics
        self._counts = counts
        self._now = now

    async def prepare(self, _: list[PolicyKey]) -> Work[PolicyKey]:
        """Give what reconciles one of a batch."""
        return self._guarded

    async def _guarded(self, key: PolicyKey) -> Outcome:
        started = monotonic()
        result, outcome = "ok", DONE
        try:
            await self._reconcile(key)
        except Exception as error:  # noqa: BLE001  # sorted there, and logged with its traceback when it is a bug
            failure = report(error, log=log, metrics=self._metrics, policy=str(key))
            result, outcome = failure.result, failure.outcome
        self._metrics.reconciles.labels("policy", result).inc()
        self._metrics.reconcile_seconds.labels("policy").observe(monotonic() - started)
        return outcome

    async def _reconcile(self, key: PolicyKey) -> None:
        policy = await self._policies.find(key)
        if policy is None or policy.deleting:
            return
        judged = self._gateway.policies.get(key)
        if judged is None or (judged.uid, judged.generation) != (policy.uid, policy.generation):
            return  # the config lane has not compiled this generation yet, and wakes the policy when it has
        ack = self._acknowledger.acknowledgement(
            key, uid=policy.uid, generation=policy.generation, served=judged.verdict.in_config
        )
        if judged.problem is not None and not judged.problem.partial and ack.state is not AckState.BLOCKED:
            ack = Acknowledgement(AckState.BLOCKED, problem=judged.problem)
        result = compute_policy_status(
            policy, judged.verdict, ack, self._now(), ancestor=self._ancestor, counts=self._counts(key)
        )
        if isinstance(policy.spec, RateLimitPolicySpec):
            news = budget_news(policy.spec, policy.status.get("usage"), result.status.get("usage"))
            result = replace(result, transitions=(*result.transitions, *news))
        await self._write_status(policy, result)

    async def _write_status(self, policy: Policy, result: StatusResult) -> None:
        if not result.changed:
            return
        await apply_declared(self._kube, _status_manifest(policy, dict(result.status)))
        for transition in result.transitions:
            log.info(
                "condition changed",
                extra={"policy": str(policy.key), "generation": policy.generation, "reason": transition.reason},
            )
            self._events.record(_subject(policy), transition.type, transition.reason, transition.message)


def _status_manifest(policy: Policy, status: dict[str, Any]) -> Manifest:
    # NB: the uid is a precondition: a policy deleted and made again in the meantime must not get this status.
    metadata = {"name": policy.key.name, "namespace": policy.key.namespace, "uid": policy.uid}
    return {"apiVersion": API_VERSION, "kind": policy.kind, "metadata": metadata, "status": status}


def _subject(policy: Policy) -> Subject:
    return Subject(API_VERSION, policy.kind, policy.key.namespace, policy.key.name, policy.uid)
