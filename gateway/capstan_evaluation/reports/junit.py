"""A run as JUnit XML, which CI systems show: a case of the suite is a test case, and so is each comparison. Pure.

The form is that of Apache Ant's task, as Jenkins and GitLab read it. What a model wrote may hold characters that XML
cannot say at all; they are replaced.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as Tree

from capstan_evaluation.records import Comparison, Outcome, Result, Run, ScoreState, Verdict

MOST_TEXT: Final = 2_000
"""Characters of a prompt or an answer."""
_UNSAYABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(run: Run, baseline: Run | None, verdict: Verdict | None) -> str:
    """Give the document.

    With a baseline a case fails that is a regression of a scorer that may gate, and a comparison that fails; one that
    is inconclusive is skipped. Without, a case fails that a scorer of pass and fail, a judge aside, does not pass in
    all repeats. A case without an answer is an error.
    """
    cases = _by_case(run.results)
    before = _by_case(baseline.results if baseline is not None else ())
    regressed = _regressions(verdict)
    tests = [_case(run.header.suite, name, results, regressed, before.get(name, ())) for name, results in cases.items()]
    tests += [_comparison(run.header.suite, one) for one in (verdict.comparisons if verdict else ())]
    counts = {
        "tests": str(len(tests)),
        "failures": str(sum(test.find("failure") is not None for test in tests)),
        "errors": str(sum(test.find("error") is not None for test in tests)),
        "skipped": str(sum(test.find("skipped") is not None for test in tests)),
        "time": _time(run.results),
    }
    suites = Tree.Element("testsuites", {"name": "capstan eval", **counts})
    suite = Tree.SubElement(suites, "testsuite", {"name": say(run.header.suite), **counts})
    if run.header.began:
        suite.set("timestamp", say(run.header.began.removesuffix("Z")))
    properties = Tree.SubElement(suite, "properties")
    for key in ("id", "suiteHash", "target", "url", "revision", "judge"):
        if value := getattr(run.header, key):
            Tree.SubElement(properties, "property", {"name": key, "value": say(value)})
    suite.extend(tests)
    Tree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Tree.tostring(suites, encoding="unicode")}\n'


def say(text: str) -> str:
    """Give a text with what XML cannot say replaced."""
    return _UNSAYABLE.sub("\ufffd", text)


def _by_case(results: Iterable[Result]) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.case, []).append(result)
    return found


def _regressions(verdict: Verdict | None) -> Mapping[str, list[str]] | None:
    """Give the scorers by which a case is a regression; None: there is nothing to compare with."""
    if verdict is None:
        return None
    found: dict[str, list[str]] = {}
    for comparison in verdict.comparisons:
        for case in comparison.regressions if comparison.mayGate else ():
            found.setdefault(case, []).append(comparison.scorer)
    return found


def _case(
    suite: str,
    name: str,
    results: Sequence[Result],
    regressed: Mapping[str, list[str]] | None,
    before: Sequence[Result],
) -> Tree.Element:
    test = Tree.Element("testcase", {"classname": say(suite), "name": say(name), "time": _time(results)})
    failed = _failed(results) if regressed is None else regressed.get(name, [])
    errors = [result.answer.error for result in results if result.answer.error]
    if errors:
        Tree.SubElement(test, "error", {"type": say(errors[0]), "message": say(f"no answer: {errors[0]}")})
    elif failed:
        message = f"{'regression' if regressed is not None else 'failed'}: {', '.join(failed)}"
        failure = Tree.SubElement(test, "failure", {"type": say(failed[0]), "message": say(message)})
        failure.text = say(_told(results, failed, before))
    return test


def _failed(results: Sequence[Result]) -> list[str]:
    return list(
        dict.fromkeys(
            score.scorer
            for result in results
            for score in result.scores
            if score.binary and score.stamp is None and score.state is ScoreState.SCORED and score.value == 0
        )
    )


def _told(results: Sequence[Result], scorers: Sequence[str], before: Sequence[Result]) -> str:
    worst = next((one for one in results if any(s.scorer in scorers and s.value == 0 for s in one.scores)), results[0])
    reasons = [f"{one.scorer}: {one.reason}" for one in worst.scores if one.scorer in scorers and one.reason]
    parts = [("asked", worst.prompt), ("expected", worst.expected), ("answered", worst.answer.text)]
    if before:
        parts.append(("baseline answered", before[0].answer.text))
    return "\n\n".join([*reasons, *(f"--- {name}\n{_cut(text)}" for name, text in parts if text)])


def _comparison(suite: str, one: Comparison) -> Tree.Element:
    test = Tree.Element("testcase", {"classname": say(f"{suite} (compared)"), "name": say(one.scorer), "time": "0.000"})
    message = (
        f"{one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}] beside a margin of {one.margin:g}"
        f"{', informs only' if not one.mayGate else ''}{f'; {one.note}' if one.note else ''}"
    )
    if one.outcome is Outcome.FAIL and one.mayGate:
        Tree.SubElement(test, "failure", {"type": "regression", "message": say(message)})
    elif one.outcome is not Outcome.PASS:
        Tree.SubElement(test, "skipped", {"message": say(f"{one.outcome.value}: {message}")})
    return test


def _time(results: Iterable[Result]) -> str:
    return f"{sum(result.answer.seconds for result in results):.3f}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]} [{len(text) - MOST_TEXT} characters more]"
