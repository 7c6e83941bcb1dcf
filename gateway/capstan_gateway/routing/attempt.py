"""One request to one endpoint: its slot, and its verdict for the breaker, each taken once and given back once."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from capstan_gateway.headers import Header
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.retry_after import retry_after
from capstan_gateway.routing.verdicts import CLIENT_ERROR, FULL, blames_endpoint, describe, status_blames_endpoint
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint

SUSPICIOUS_SHARE: Final = 0.5
"""An endpoint that is left after this share of a deadline has passed in silence has failed: it would probably have
passed the deadline too, and whoever hides its silence by leaving early must not keep it in."""
SILENT: Final = "silent"
_PAUSED: Final = frozenset((FULL, 503, 529))
"""What an endpoint says that asks to be left alone."""
_FULL_SECONDS: Final = 1.0
"""How long an endpoint is left alone, if there are others, that says 429 and not until when."""


class AttemptOutcome(StrEnum):
    """What became of an attempt."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """The endpoint answered to the end; or refused the request, which is an answer as well."""
    FAILED = "failed"
    LEFT = "left"
    """Given up before it was over: the client has gone, another attempt was sooner, time was up."""


# NB: a member of an enumeration is looked up anew each time that its class is asked for it.
_RUNNING: Final = AttemptOutcome.RUNNING
_SUCCEEDED: Final = AttemptOutcome.SUCCEEDED
_FAILED: Final = AttemptOutcome.FAILED
_LEFT: Final = AttemptOutcome.LEFT


class Attempt:
    """From just before a request is sent to the end of its answer. Shared by dispatch, its answer and the bill.

    The first outcome counts, and what is told later is ignored: a body that breaks off behind a refusal is no second
    failure. Times are the loop's, in seconds.
    """

    __slots__ = (
        "_ticket", "began_at", "endpoint", "hedge", "holds_slot", "opening", "outcome", "sent", "state", "status",
    )  # fmt: skip

    def __init__(self, state: EndpointState, now: float, hedge: bool = False) -> None:
        self.state = state
        self.endpoint: Endpoint = state.endpoint
        self.began_at = now
        self.hedge = hedge
        """Whether it was the second one, sent because a first token was late."""
        self.sent = False
        """Whether the endpoint may have seen the request; whoever sends it says so."""
        self.status = 0
        """That of its answer; 0: none came."""
        self.opening: object | None = None
        """What has read the beginning of its answer, for whoever knows what that is: it may have told what it cost."""
        self.outcome = _RUNNING
        self._ticket = state.breaker.begin(now)
        self.holds_slot = True
        """Whether its endpoint is still busy with it."""
        state.in_flight += 1

    @property
    def may_have_worked(self) -> bool:
        """Whether an engine may have computed for it, and somebody may charge for that."""
        return self.sent and self.status < CLIENT_ERROR

    def release(self) -> None:
        """Give the slot back, if that has not happened already."""
        if self.holds_slot:
            self.holds_slot = False
            self.state.in_flight -= 1

    def succeed(self, now: float) -> None:
        """The answer is over and nothing went wrong with it: the slot is given back as well.

        Only then: an endpoint that begins every answer well and breaks off in the middle must not look healthy.
        """
        state = self.state
        if self.holds_slot:  # As in `release`: every request comes by here.
            self.holds_slot = False
            state.in_flight -= 1
        if self.outcome is _RUNNING:
            self.outcome = _SUCCEEDED
            if state.breaker.succeed(now, self._ticket):
                state.last_error = None

    def fail(self, error: UpstreamError, now: float) -> None:
        """The attempt, or its answer in the middle, ended with this error."""
        self.sent = self.sent or error.sent
        if blames_endpoint(error):
            self.blame(describe(error), now)
        elif self.outcome is _RUNNING:
            self.outcome = _LEFT

    def blame(self, word: str, now: float) -> None:
        """The endpoint failed, for this reason."""
        if self.outcome is not _RUNNING:
            return
        self.outcome = _FAILED
        breaker = self.state.breaker
        if breaker.counts(self._ticket):
            self.state.last_error = word
            breaker.fail(now, self._ticket)

    def leave(self, now: float, *, silent: float, deadline: float) -> None:
        """The attempt is given up in the middle, which says neither success nor failure.

        Unless its endpoint had been silent for long by then, measured by the `deadline` that was in force.
        """
        if self.outcome is not _RUNNING:
            return
        if silent > deadline * SUSPICIOUS_SHARE:
            self.blame(SILENT, now)
        else:
            self.outcome = _LEFT

    def answered(self, headers: Sequence[Header], now: float, wall_clock: Callable[[], float], *, keyed: bool) -> None:
        """An answer with an error status has begun. Some are the endpoint's failure; some ask for a pause."""
        status = self.status
        if status_blames_endpoint(status, keyed=keyed):
            self.blame(str(status), now)
        if status in _PAUSED:
            asked = retry_after(headers, wall_clock)
            if asked is None and status == FULL:
                asked = _FULL_SECONDS
            if asked:
                self.state.breaker.defer(now, asked)
