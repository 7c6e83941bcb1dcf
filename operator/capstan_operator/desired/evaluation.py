"""What the gateway's config says of the evaluation of a model's answers. Pure."""

from decimal import Decimal

from capstan_contract.evaluation import Criterion, Evaluation, ScoreWindow
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.resources.resource import ObjectKey


def build_evaluation(model: Model, spec: LLMModelSpec) -> Evaluation | None:
    """Give how a model's answers are sampled and judged; None when they are not, or none of them is."""
    wanted = spec.evaluation
    if wanted is None or (wanted.sampleRate is not None and not Decimal(wanted.sampleRate)):
        return None
    return Evaluation(
        sampleRate=None if wanted.sampleRate is None else float(Decimal(wanted.sampleRate)),
        perHour=wanted.perHour,
        criteria=tuple(
            Criterion(name=one.name, text=one.text, rubric=one.rubric)
            for one in sorted(wanted.criteria, key=lambda criterion: criterion.name)
        ),
        judge=str(ObjectKey(model.key.namespace, wanted.judge.name)),
        judgeTimeoutSeconds=float(wanted.judge.timeoutSeconds),
        alertBelow=None if wanted.alertBelow is None else float(Decimal(wanted.alertBelow)),
        window=ScoreWindow(**wanted.window.model_dump()),
        retentionSeconds=wanted.retentionSeconds,
    )
