"""What Prometheus is told of scores. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from capstan_contract.evaluation import TrackScores
from capstan_evaluation.online.scorer import Scorer

_STANDING: Final = (
    ("llm_eval_score", "Mean score of sampled answers over the window of the model's evaluation."),
    ("llm_eval_score_low", "Lower end of the interval of that mean, at 95 %, however often one looks."),
    ("llm_eval_score_high", "Upper end of that interval."),
    ("llm_eval_scored", "Answers in that window."),
    ("llm_eval_could_not_tell", "Answers in that window of which the judge could not tell; they are in no mean."),
    ("llm_eval_failed", "Answers in that window that the judge did not judge."),
    ("llm_eval_alert_below", "Where the evaluation of the model says that a person is to be called."),
    ("llm_eval_newest_timestamp_seconds", "When the newest answer in that window was given."),
    ("llm_eval_minimum", "Answers below which nothing is concluded."),
)


def render(scorer: Scorer) -> str:
    """Give everything in Prometheus' text format. Models, criteria and tracks are those of manifests: bounded."""
    plans, standing, waiting = scorer.plans(), scorer.standing(), scorer.waiting()
    names = {model_id: plan.model for model_id, plan in plans.items()}
    series: dict[str, list[str]] = {name: [] for name, _ in _STANDING}
    for model_id, scores in standing.items():
        plan = plans[model_id]
        for one in scores:
            labels = _labels(_who(names[model_id], one))
            for name, value in _values(one):
                series[name].append(f"{name}{labels} {value}")
            if plan.evaluation.alertBelow is not None:
                series["llm_eval_alert_below"].append(f"llm_eval_alert_below{labels} {plan.evaluation.alertBelow}")
            series["llm_eval_minimum"].append(f"llm_eval_minimum{labels} {plan.evaluation.window.minimumCount}")
    lines: list[str] = []
    for name, text in _STANDING:
        lines += _family(name, "gauge", text, series[name])
    counts = scorer.counts
    by_model = ((_labels({"model": names.get(id_, id_)}), number) for id_, number in sorted(counts.judged.items()))
    lines += _family(
        "capstan_scorer_judged_total", "counter", "Samples that were scored.",
        [f"capstan_scorer_judged_total{labels} {number}" for labels, number in by_model],
    )  # fmt: skip
    for name, kind, text, place in (
        ("capstan_scorer_waiting", "gauge", "Samples that are there and not judged yet.", 0),
        ("capstan_scorer_dead_total", "counter", "Samples that were given up: scorers have died of them.", 1),
    ):
        numbers = ((_labels({"model": names[id_]}), both[place]) for id_, both in sorted(waiting.items()))
        lines += _family(name, kind, text, [f"{name}{labels} {number}" for labels, number in numbers])
    for name, text, number in (
        ("capstan_scorer_judge_calls_total", "Calls of judges.", counts.calls),
        ("capstan_scorer_judge_failures_total", "Those that had no answer.", counts.failed_calls),
        (
            "capstan_scorer_unreadable_total",
            "Samples that could not be read: sealed by another key.",
            counts.unreadable,
        ),
    ):
        lines += _family(name, "counter", text, [f"{name} {number}"])
    return "\n".join((*lines, ""))


def _who(model: str, one: TrackScores) -> dict[str, str]:
    return {"model": model, "eval_type": one.criterion, "track": one.track, "revision": one.revision}


def _values(one: TrackScores) -> Iterator[tuple[str, float]]:
    if one.count:
        yield "llm_eval_score", one.mean
    yield "llm_eval_score_low", one.low
    yield "llm_eval_score_high", one.high
    yield "llm_eval_scored", one.count
    yield "llm_eval_could_not_tell", one.couldNotTell
    yield "llm_eval_failed", one.failed
    yield "llm_eval_newest_timestamp_seconds", one.newest


def _family(name: str, kind: str, text: str, samples: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]


def _labels(pairs: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
