"""A run and what was concluded from it as one JSON document, for programs. Pure."""

import json

from capstan_evaluation.records import Run, Verdict
from capstan_evaluation.reports.summary import summarise

VERSION = 1


def render_json(run: Run, baseline: Run | None, verdict: Verdict | None) -> str:
    """Give the document: the run's header and figures, what it took, the verdict, and each result without its texts.

    Results have ids, scores, tokens and times; prompts and answers are in the run's file.
    """
    results = [
        {
            **one.model_dump(mode="json", include={"case", "repeat", "request", "tags"}),
            "error": one.answer.error,
            "finishReason": one.answer.finishReason,
            "seconds": one.answer.seconds,
            "firstTokenSeconds": one.answer.firstTokenSeconds,
            "usage": one.answer.usage.model_dump(mode="json"),
            "scores": [score.model_dump(mode="json") for score in one.scores],
        }
        for one in run.results
    ]
    document = {
        "version": VERSION,
        "run": run.header.model_dump(mode="json"),
        "baseline": None if baseline is None else baseline.header.model_dump(mode="json"),
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
        "figures": summarise(run).model_dump(mode="json"),
        "spent": {
            "target": run.target.model_dump(mode="json"),
            "judging": run.judging.model_dump(mode="json"),
        },
        "results": results,
    }
    return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
