"""`capstan rollout`: what it says, and what it asks for."""

import json

import pytest

from capstan_operator.api.rollout import GateEvidence, RejectedRevision, RolloutStatus
from capstan_operator.cli.main import main
from capstan_operator.cli.rollout import action_text, as_json, as_text, build_wish

GATE = GateEvidence(name="errorRate", outcome="Fail", step=1, limit="0.01", low="0.02", high="0.1", count=100)
TRIED = RolloutStatus(state="Step", stable="aa", candidate="bb", attempt=1, step=1, weight=10, gates=(GATE,),
                      began="2026-05-04T11:00:00Z")  # fmt: skip


def test_status_is_told_in_words_and_in_json() -> None:
    """State, revisions, weight, each gate with its interval, and rejected revisions; in JSON as the status has it."""
    note = RejectedRevision(revision="cc", generation=3, reason="SuiteFailed", at="2026-01-01T00:00:00Z")
    text = as_text(TRIED.model_copy(update={"rejected": (note,)}))
    for word in ("Step", "aa", "bb", "10 %", "errorRate", "[0.02, 0.1]", "SuiteFailed"):
        assert word in text
    assert json.loads(as_json(TRIED))["candidate"] == "bb"


def test_words_of_others_do_nothing_to_a_terminal() -> None:
    """A message with control characters is printed with these written out."""
    assert "\x1b" not in as_text(TRIED.model_copy(update={"message": "a\x1b[31mb"}))


@pytest.mark.parametrize("verb", ["promote", "abort", "retry"])
def test_action_names_the_revision_and_the_try(verb: str) -> None:
    """What is asked for is asked for the revision that is tried; of another try of it, it is another wish."""
    again = TRIED.model_copy(update={"began": "2026-05-05T11:00:00Z"})
    assert action_text(TRIED, verb) == f"{verb}=bb/1777892400"
    assert action_text(again, verb) == f"{verb}=bb/1777978800"


@pytest.mark.parametrize(
    ("state", "verb"), [("Complete", "promote"), ("Promoting", "promote"), ("RolledBack", "abort")]
)
def test_nothing_to_be_done_is_an_error(state: str, verb: str) -> None:
    """Where there is nothing to promote or to give up, nothing is written."""
    with pytest.raises(ValueError, match=r"no revision is tried|already"):
        action_text(TRIED.model_copy(update={"state": state}), verb)


def test_wish_is_of_this_object_alone() -> None:
    """Two annotations of the object that was read, by its uid, and nothing else of it."""
    model = {"metadata": {"name": "one", "namespace": "team", "uid": "u", "labels": {"a": "b"}}, "spec": {}}
    wish = build_wish(model, "abort=bb", by="ann")
    assert wish["metadata"] == {
        "name": "one",
        "namespace": "team",
        "uid": "u",
        "annotations": {"capstan.dev/rollout-action": "abort=bb", "capstan.dev/rollout-action-by": "ann"},
    }
    assert set(wish) == {"apiVersion", "kind", "metadata"}


def test_wrong_words_are_a_wrong_command_line() -> None:
    """An action that there is not is exit code 2."""
    with pytest.raises(SystemExit) as ended:
        main(["rollout", "explode", "one"])
    assert ended.value.code == 2
