"""What `capstan guard test` runs as a process of its own, without the process."""

import io
import json
from typing import Any

from capstan_gateway.guards.check import answers, main

PII = {"type": "PII", "name": "pii", "entities": [{"type": "Email", "action": "Block"}, {"type": "Phone"}]}
BODY = {
    "input": [{**PII, "appliesTo": ["User"]}],
    "output": [{"type": "Keywords", "name": "words", "keywords": ["falcon"], "appliesTo": ["Text"]}],
}


def asked(first: dict[str, Any], *texts: tuple[str, str]) -> list[dict[str, Any]]:
    """Give the answers to a policy and some texts."""
    lines = [json.dumps(first), *(json.dumps({"text": text, "source": source}) for text, source in texts)]
    return list(answers(iter(lines)))


def test_an_entity_has_an_action_of_its_own() -> None:
    """What a policy says of a kind goes before what it says of the guard."""
    said, found = asked({"body": BODY, "stage": "input"}, ("joe@example.com, 541-714-1388", "User"))
    assert [(guard["name"], guard["type"], guard["tried"]) for guard in said["guards"]] == [("pii", "PII", True)]
    assert [(one["kind"], one["action"]) for one in found["findings"]] == [("Email", "Block"), ("Phone", "Redact")]
    assert found["seconds"] >= 0


def test_only_the_guards_of_the_stage_look() -> None:
    """Each at the texts that it is for: others pass it by."""
    said, one, other = asked({"body": BODY, "stage": "output"}, ("a falcon", "Text"), ("a falcon", "Reasoning"))
    assert [guard["name"] for guard in said["guards"]] == ["words"]
    assert [(found["guard"], found["start"], found["end"]) for found in one["findings"]] == [("words", 2, 8)]
    assert other["findings"] == []


def test_what_cannot_be_enforced_is_an_error() -> None:
    """It is the only answer, and names the guard."""
    pattern = {"type": "Regex", "name": "r", "appliesTo": ["User"], "patterns": [{"name": "p", "pattern": "("}]}
    (told,) = asked({"body": {"input": [pattern]}, "stage": "input"}, ("x", "User"))
    assert told["error"].startswith("the guard `r` cannot be enforced: ")


def test_it_answers_line_by_line() -> None:
    """Each answer is a line of JSON, out before the next text is read."""
    out = io.StringIO()
    main([json.dumps({"body": BODY, "stage": "input"}), json.dumps({"text": "x", "source": "User"})], out)
    assert [sorted(json.loads(line)) for line in out.getvalue().splitlines()] == [
        ["guards"], ["doubt", "findings", "seconds"],
    ]  # fmt: skip
