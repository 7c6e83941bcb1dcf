from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.model import build_model
from capstan_operator.desired.patch import MERGE_KEYS
from support.plainmodels import SETTINGS, make_model, snapshot_of

FIELDS = st.sampled_from([*MERGE_KEYS, "name", "labels", "annotations", "args", "resources", "$patch", "$retainKeys"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["engine", "tmp", "delete", "replace"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS | st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)
TEMPLATES = st.fixed_dictionaries({}, optional={"metadata": ANYTHING, "spec": ANYTHING})


@given(TEMPLATES)
def test_any_template_is_built_or_told(template: dict[str, Any]) -> None:
    """Whatever is in the pod patch, there are either objects, the same every time, or faults; never an exception."""
    model = make_model(template=template)
    desired = build_model(model, snapshot_of(model), SETTINGS)
    assert bool(desired.objects) != bool(desired.faults)
    assert build_model(model, snapshot_of(model), SETTINGS) == desired
    assert not any(needs_apply(manifest, manifest) for manifest in desired.objects)
    assert compile_gateway([model]).verdicts[model.key].accepted == (not desired.faults)
