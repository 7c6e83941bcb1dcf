"""Models as selection sees them, and requests to them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from capstan_contract.config import Capability, Price
from capstan_gateway.selection.filters import Member
from capstan_gateway.selection.needs import Needs


@dataclass(frozen=True)
class PlainModel:
    """A model without an engine."""

    id: str
    capabilities: frozenset[Capability] = frozenset()
    context_window: int | None = None
    max_output_tokens: int | None = None
    price: Price | None = None
    in_flight: float = 0.0


def load_of(model: PlainModel) -> float:
    """Give the model's load."""
    return model.in_flight


@st.composite
def members(draw: st.DrawFn, *, least: int = 0) -> list[Member[PlainModel]]:
    """Some members of any kind, with names of their own."""
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=least, max_size=8, unique=True))
    return [
        Member(
            PlainModel(
                name,
                draw(st.frozensets(st.sampled_from(list(Capability)))),
                draw(st.none() | st.integers(1, 10_000)),
                draw(st.none() | st.integers(1, 10_000)),
                draw(st.none() | st.builds(Price, inputPerMillion=st.floats(0, 9), outputPerMillion=st.floats(0, 9))),
                draw(st.integers(0, 3)),
            ),
            weight=draw(st.integers(0, 100)),
            priority=draw(st.integers(0, 3)),
        )
        for name in names
    ]


REQUIREMENTS = st.builds(
    Needs,
    capabilities=st.frozensets(st.sampled_from(list(Capability))),
    text_bytes=st.integers(0, 100_000),
    max_tokens=st.none() | st.integers(1, 10_000),
)
