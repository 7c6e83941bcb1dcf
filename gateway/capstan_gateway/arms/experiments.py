"""What the members of weighted routers did, over changes of the config: by the router's id and what it is made of.

With other members, weights or stickiness a router is another experiment, whose counts begin at nothing: what was
counted before says nothing of shares that are drawn anew. The newest ones are kept, those that nobody asks any more go
first.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from capstan_contract.config import RouterBackend, Strategy
from capstan_contract.tracks import Arm, Experiment
from capstan_gateway.arms.tally import Tally

MOST_ARMS: Final = 256
"""Members of all experiments: some 9 MB at most."""


class Setup(NamedTuple):
    """What makes a weighted router the experiment that it is. Equal ones are one experiment."""

    router: str
    """Id of the router."""
    sticky_by: str
    members: tuple[tuple[str, int], ...]
    """Id and weight of those that have a weight, sorted."""

    @property
    def epoch(self) -> str:
        """A hash that is the same in all replicas."""
        text = repr((self.sticky_by, self.members)).encode()
        return blake2b(text, digest_size=8).hexdigest()


def setup_of(router: str, backend: RouterBackend) -> Setup | None:
    """Give what a router is made of; None where it compares nothing: it has no weights, or not two of them."""
    members = tuple(sorted((member.model, member.weight) for member in backend.members if member.weight))
    if backend.strategy is not Strategy.WEIGHTED or len(members) < 2:
        return None
    return Setup(router, backend.stickyBy.value, members)


class Experiments:
    """The counters of one process. Only the loop's thread touches it."""

    def __init__(self, *, most: int = MOST_ARMS) -> None:
        self._most: Final = most
        self._tallies: OrderedDict[Setup, dict[str, Tally]] = OrderedDict()
        """By experiment, the one that was asked last at the end."""
        self._arms = 0

    def tally(self, setup: Setup, member: str) -> Tally:
        """Give the counters of a member, which has them from its first request on."""
        tallies = self._tallies.get(setup)
        if tallies is None:
            tallies = self._tallies[setup] = {}
        else:
            self._tallies.move_to_end(setup)
        tally = tallies.get(member)
        if tally is None:
            tally = tallies[member] = Tally()
            self._arms += 1
            while self._arms > self._most and len(self._tallies) > 1:
                self._arms -= len(self._tallies.popitem(last=False)[1])
        return tally

    def retain(self, routers: Iterable[str]) -> None:
        """Forget what was counted of routers that are gone."""
        kept = frozenset(routers)
        for setup in [one for one in self._tallies if one.router not in kept]:
            self._arms -= len(self._tallies.pop(setup))

    def report(self, current: Sequence[tuple[Setup, str]]) -> tuple[Experiment, ...]:
        """Say what was counted: of those that are in the config now, each with its name, and of those before them."""
        names = dict(current)
        routers = {setup.router: name for setup, name in current}
        before = [setup for setup in self._tallies if setup not in names]
        return tuple(
            self._experiment(setup, routers.get(setup.router, ""), current=setup in names)
            for setup in sorted([*names, *before], key=lambda one: (one.router, one not in names, one.epoch))
        )

    def _experiment(self, setup: Setup, name: str, *, current: bool) -> Experiment:
        tallies = self._tallies.get(setup, {})
        arms = tuple(
            Arm(member=member, weight=weight, counters=tallies[member].counters())
            if member in tallies
            else Arm(member=member, weight=weight)
            for member, weight in setup.members
        )
        return Experiment(
            router=setup.router, name=name, stickyBy=setup.sticky_by, epoch=setup.epoch, current=current, arms=arms
        )
