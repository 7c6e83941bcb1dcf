"""Whatever becomes of ConfigMaps: no prompt that was in force is lost, and none of another prefix is taken for it."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.api.kinds import Model
from capstan_operator.desired.prompts import Prompt, PromptKey, Trouble, fill_prompts
from capstan_operator.resources.resource import ObjectKey
from support.plainmodels import make_model

NAMES = ["a", "b", "c", "d"]
TEXTS = st.text(min_size=1, max_size=5)
PROMPTS = st.one_of(TEXTS, st.sampled_from(Trouble))
STEPS = st.lists(st.dictionaries(st.sampled_from(NAMES), PROMPTS), min_size=1, max_size=6)


def _key(name: str) -> PromptKey:
    return PromptKey(ObjectKey("team", "shared"), name)


def _model() -> Model:
    prefixes = [{"name": name, "systemFrom": {"configMapKeyRef": {"name": "shared", "key": name}}} for name in NAMES]
    return make_model(prefixes=[*prefixes, {"name": "own", "system": "own"}])


@given(STEPS)
def test_the_last_good_text_of_each_prefix_is_in_force(steps: list[dict[str, Prompt]]) -> None:
    """After any course of looks, a prefix has the text that was read of it last; each that has none now is told."""
    last: dict[str, str] = {}
    good: dict[str, str] = {"own": "own"}
    for step in steps:
        filled = fill_prompts(_model(), {_key(name): found for name, found in step.items()}, last)
        good |= {name: found for name, found in step.items() if not isinstance(found, Trouble)}
        assert filled.model.spec is not None
        last = filled.model.spec.prompts
        assert last == good
        bad = [index for index, name in enumerate(NAMES) if isinstance(step.get(name, Trouble.UNREADABLE), Trouble)]
        assert [fault.field for _, fault in filled.faults] == [f"spec.prefixes[{index}].systemFrom" for index in bad]
