"""What clients are told of guards that end a request. Pure: names of guards, never a word of what was found."""

from capstan_gateway.errors import AnswerNotChecked, GuardBlocked, GuardUnavailable
from capstan_gateway.pipeline.guards.compiled import CompiledGuard


def blocked(guard: CompiledGuard, *, param: str | None = None, said: str | None = None) -> GuardBlocked:
    """Give the error of a request that a guard does not let pass; `said` is what the guard itself says of it."""
    said = guard.guard.message or said or f"the guard `{guard.name}` does not let this request pass"
    return GuardBlocked(said, param=param)


def unreadable(what: str, param: str | None) -> GuardBlocked:
    """Give the error of a request with something in it that no guard can read."""
    return GuardBlocked(f"the request holds {what}, which no guard can check", param=param)


def unavailable(guard: CompiledGuard) -> GuardUnavailable:
    """Give the error of a request that could not be checked."""
    return GuardUnavailable(f"the guard `{guard.name}` could not check the request; try again")


def not_checked(guard: CompiledGuard) -> AnswerNotChecked:
    """Give the error of an answer that could not be checked."""
    return AnswerNotChecked(f"the guard `{guard.name}` could not check the answer")
