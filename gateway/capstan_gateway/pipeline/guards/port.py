"""What a guard is that has to ask somebody: a model, a service, or the whole answer.

Such a guard looks at all texts of a case at once. It is asked last, and only when those in the process have not decided
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from capstan_contract.guards import Stage
from capstan_gateway.guards.port import Scan
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.guards.pieces import Piece

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is to be judged."""

    stage: Stage
    ask: Ask
    """In whose name; its request is what the engine is sent, or was. Calls are forks of it, inside of `of_its_own`."""
    pieces: Sequence[Piece]
    """The texts that the guard applies to, as other guards have redacted them; of a guard that has a detector as well,
    those about which that is in doubt. They may be empty where the guard is about an answer as a whole."""
    policy: str = ""
    """What the policy is called that the guard is of."""
    everywhere: bool = False
    """Whether that is the installation's, in force everywhere."""
    answer: Document | None = None
    """Of the stage of output: the answer as it came, a chat completion or a completion; None of a stream of which only
    a window is there."""


class AskingGuard(Protocol):
    """Judges a case. It is made once for a policy, and never changes."""

    async def judge(self, case: Case) -> Sequence[Scan]:
        """Give what is found in each piece, in their order; what is about the whole belongs to the first one.

        One scan for each piece: whoever gives fewer, or more, has not judged them all. A RoutingError, UpstreamError or
        GatewayError, or anything else that it raises, means that it could not decide; so does it to take longer than
        its `timeoutMillis`, for which whoever calls it waits and then cancels it.
        """
        ...
