"""Checks of a suite become scorers."""

from collections.abc import Iterable, Mapping

from capstan_evaluation.asking import Embedder
from capstan_evaluation.errors import Fault
from capstan_evaluation.scorers.functions import Function, NoSuchFunction, Scoring, load_function
from capstan_evaluation.scorers.numbers import Numeric, number_in
from capstan_evaluation.scorers.plain import Contains, Equal, Latency, Length, Regex
from capstan_evaluation.scorers.port import Scorer, WaitingScorer
from capstan_evaluation.scorers.refusals import Refusal
from capstan_evaluation.scorers.schemas import JsonSchema, schema_fault
from capstan_evaluation.scorers.similarity import Similarity
from capstan_evaluation.suites import checks
from capstan_evaluation.suites.checks import JUDGED, Check, name_of
from capstan_evaluation.suites.suite import Case, Suite


def build_scorer(check: Check) -> Scorer | None:
    """Build what scores by itself; None: the check asks somebody."""
    match check:
        case checks.Exact() | checks.Normalised():
            return Equal(check)
        case checks.Contains():
            return Contains(check)
        case checks.Regex():
            return Regex(check)
        case checks.Numeric():
            return Numeric(check)
        case checks.JsonSchema():
            return JsonSchema(check)
        case checks.Refusal():
            return Refusal(check)
        case checks.Length():
            return Length(check)
        case checks.Latency():
            return Latency(check)
        case _:
            return None


def build_waiting_scorer(
    check: Check, *, embedder: Embedder | None, functions: Mapping[str, Scoring]
) -> WaitingScorer | None:
    """Build what asks an embedder or a function; None: there is nobody to ask, or a judge has to be."""
    match check:
        case checks.Similarity() if embedder is not None:
            return Similarity(check, embedder)
        case checks.Function() if check.function in functions:
            return Function(check, functions[check.function])
        case _:
            return None


def load_functions(suite: Suite) -> dict[str, Scoring]:
    """Load the functions that a suite names. Raises NoSuchFunction."""
    names = {check.function for case in suite.cases for check in case.checks if isinstance(check, checks.Function)}
    return {name: load_function(name) for name in sorted(names)}


def find_faults(suite: Suite) -> list[Fault]:
    """Give what can only be told with what scores: schemas that are none, numbers that are none, missing functions."""
    known: dict[str, str | None] = {}
    return [fault for case in suite.cases for fault in _faults_of(case, known)]


def needs_judge(suite: Suite) -> bool:
    """Whether some of its scores are a judge's."""
    return any(isinstance(check, JUDGED) for case in suite.cases for check in case.checks)


def needs_embedder(suite: Suite) -> bool:
    """Whether some of its scores take a model of embeddings."""
    return any(isinstance(check, checks.Similarity) for case in suite.cases for check in case.checks)


def _faults_of(case: Case, known: dict[str, str | None]) -> Iterable[Fault]:
    for place, check in enumerate(case.checks):
        fault = _number_fault(case, check) if isinstance(check, checks.Numeric) else _shared_fault(check, known)
        if fault is not None:
            yield Fault(fault, case=case.id, field=f"checks[{place}] ({name_of(check)})")


def _number_fault(case: Case, check: checks.Numeric) -> str | None:
    right = check.value if check.value is not None else case.turns[(check.turn or 0) - 1].expected
    return None if number_in(right or "") else "needs a number in `expected`, or `value`"


def _shared_fault(check: Check, known: dict[str, str | None]) -> str | None:
    """Say what is wrong with a check whatever the case: what many cases share is looked at once."""
    if not isinstance(check, checks.JsonSchema | checks.Function):
        return None
    key = check.model_dump_json()
    if key not in known:
        known[key] = _fault_of(check)
    return known[key]


def _fault_of(check: checks.JsonSchema | checks.Function) -> str | None:
    if isinstance(check, checks.JsonSchema):
        fault = schema_fault(check.jsonSchema)
        return None if fault is None else f"`jsonSchema` {fault}"
    try:
        load_function(check.function)
    except NoSuchFunction as error:
        return f"`function` is not there: {error}"
    return None
