"""Whatever a webhook answers: it is a verdict as documented, or nobody has decided."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_contract.guards import Action
from capstan_gateway.guards.port import NOTHING
from capstan_gateway.guards.prompts.unreadable import Unreadable
from capstan_gateway.pipeline.guards.asked.webhook import read_verdict

TEXTS = ["the zebra", "", "eats"]
PLACE = st.integers(-1, 12) | st.none() | st.booleans()
FINDING = st.fixed_dictionaries(
    {"piece": PLACE, "start": PLACE, "end": PLACE},
    optional={"kind": st.text(max_size=9) | st.none() | st.integers(-9, 9)},
)
VERDICTS = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(["allow", "warn", "redact", "block", "Allow", None, 1]) | st.text(max_size=5),
        "findings": st.lists(FINDING | st.integers(-9, 9), max_size=3) | st.none() | st.text(max_size=3),
        "message": st.text(max_size=600) | st.none() | st.integers(-9, 9),
    },
)


@settings(max_examples=400)
@given(VERDICTS.map(orjson.dumps) | st.binary(max_size=30), st.sampled_from(list(Action)))
def test_a_verdict_is_as_documented_or_none(answer: bytes, most: Action) -> None:
    """Nothing but `allow` finds nothing; places lie in their texts; nothing is severer than the policy allows."""
    try:
        scans = read_verdict(answer, TEXTS, most)
    except Unreadable:
        return
    said: Any = orjson.loads(answer)
    if said["action"] == "allow":
        assert scans == [NOTHING] * len(TEXTS)
        return
    assert len(scans) == len(TEXTS)
    found = [(text, one) for text, scan in zip(TEXTS, scans, strict=True) for one in scan.findings]
    assert found
    severity = [Action.WARN, Action.REDACT, Action.BLOCK]
    for text, one in found:
        assert 0 <= one.start <= one.end <= len(text)
        assert one.action is not None
        assert severity.index(one.action) <= min(
            severity.index(most), ["warn", "redact", "block"].index(said["action"])
        )
