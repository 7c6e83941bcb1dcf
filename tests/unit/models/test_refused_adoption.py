"""A change of settings whose template the API server refuses."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from capstan_operator.desired.model import build_model
from capstan_operator.desired.pods import template_hash
from capstan_operator.desired.types import DesiredModel, Pending, Verdict
from capstan_operator.kube.errors import Invalid
from capstan_operator.metrics import Metrics
from capstan_operator.models.adopter import Adopter
from capstan_operator.models.reconciler import ModelReconciler
from capstan_operator.models.writer import ChildWriter, Written
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings
from capstan_operator.status.compute import compute_status
from capstan_operator.status.types import Acknowledgement, AckState, Problem
from fakes.apply_kube import ApplyKube
from support.autoscalers import idle_autoscaler
from support.plainmodels import SETTINGS, deployment_of, make_model, make_pod, snapshot_of

MODEL = make_model(replicas=1)
SETTINGS_NOW = Settings(build=replace(SETTINGS, worker_image="ghcr.io/capstan/worker:0.2.0"))


class _Refuses(ApplyKube):
    """An API server with a policy against the new image."""

    async def apply(self, manifest: Manifest, **options: Any) -> Manifest:
        if manifest["kind"] == "Deployment":
            raise Invalid("the image is not allowed")
        return await super().apply(manifest, **options)


def _conditions(problems: list[Problem], desired: DesiredModel, live: Manifest) -> dict[str, tuple[str, str]]:
    snapshot = snapshot_of(MODEL, live, pods=(make_pod("old", template_hash(live), ready=True),))
    acknowledged = Acknowledgement(AckState.NOT_NEEDED)
    verdict = Verdict(accepted=True, reason="Accepted", message="")
    result = compute_status(
        MODEL, desired, snapshot, verdict, acknowledged, datetime(2026, 1, 1, tzinfo=UTC), problems=problems
    )
    return {one["type"]: (one["status"], one["reason"]) for one in result.status["conditions"]}


async def test_the_model_stays_ready_and_says_what_is_refused() -> None:
    """What serves is what its spec asks for: only Degraded tells, in the run with the turn and in those without."""
    kube, live, nothing = _Refuses(), deployment_of(MODEL), cast(Any, None)
    live["metadata"]["uid"] = "uid-of-the-deployment"
    adopter = Adopter(nothing, SETTINGS_NOW, wake=lambda _: None, metrics=Metrics())
    reconciler = ModelReconciler(
        kube,
        nothing,
        SETTINGS_NOW,
        gateway=nothing,
        acknowledger=nothing,
        events=nothing,
        wake=lambda _: None,
        metrics=Metrics(),
        adopter=adopter,
        autoscaler=idle_autoscaler(),
    )
    own = snapshot_of(MODEL, live)
    seen = []
    turn, own = reconciler._rollouts.begin(MODEL, own)
    for adopt in (True, False):
        desired = build_model(MODEL, own, SETTINGS_NOW.build, adopt=adopt)
        written = await ChildWriter(kube).write(MODEL, desired, (live,)) if adopt else Written({})
        desired = reconciler._without_refused(turn, own, written, desired)
        assert desired.pending is Pending.ADOPTION
        seen.append(_conditions(written.problems, desired, live))
    assert seen[0] == seen[1]
    assert (seen[0]["Ready"], seen[0]["Available"][0]) == (("True", "Serving"), "True")
    assert seen[0]["Degraded"] == ("True", "ApplyRefused")
    adopter.report(MODEL.key, None)
    assert adopter.refusal(MODEL.key) is None
