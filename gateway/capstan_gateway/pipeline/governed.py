"""What limits say of a request that is under way: what has been taken for it, and what it may cost."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.limits.port import Standing, Verdict
from capstan_gateway.pipeline.estimates import CostBound
from capstan_gateway.tokens.price import Rates
from capstan_gateway.tokens.usage import Usage


class Granted(Protocol):
    """What was taken for a request under one policy that is enforced; `limits.grant.Grant` is one."""

    @property
    def standings(self) -> Sequence[Standing]:
        """How the counters of the policy stand, by what was said last."""
        ...

    def used(self, so_far: Usage, rates: Rates | None) -> list[int]:
        """Give what each counter has used, when `so_far` was used by what is under way, at these rates."""
        ...

    async def extend(
        self, *, input_tokens: int = 0, output_tokens: int = 0, so_far: Usage, rates: Rates | None
    ) -> Verdict:
        """Take so many tokens more, and their price, all or nothing. Raises StoreDown."""
        ...

    async def cover(self, ask: Any, model: ServedModel) -> None:
        """Take what this model may use beyond what is left of it, before this `Ask` comes to it; else raises why."""
        ...


class Governed(NamedTuple):
    """It is never changed: who knows more puts another one in its place."""

    grants: tuple[Granted, ...] = ()
    """Of what the ask is inside of, the outermost first. Whatever answers it uses all of them: a stream that goes on
    extends each."""
    bound: CostBound | None = None
    """What it may cost."""
    metered: bool = False
    """Whether tokens of its stream are counted while it goes on."""
    downgraded: bool = False
    """Whether a cheaper model answers already: there is no second step down."""

    async def cover(self, ask: Any, model: ServedModel) -> None:
        """Have everything that was taken be enough for this model as well; raises what refuses that."""
        for grant in self.grants:
            await grant.cover(ask, model)
