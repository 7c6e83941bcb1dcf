"""What becomes of one credential."""

import base64

import pytest

from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.desired.naming import (
    SEALING,
    credential_file,
    origin_of,
    owner_of_credential,
    plain_credential_file,
    policy_credential_file,
)
from capstan_operator.gateway_config.credential_rules import (
    MOST_VALUE_BYTES,
    Decision,
    Held,
    Reading,
    Reference,
    Rules,
    adopt,
    by_owner,
    decide,
    read_secret,
)
from capstan_operator.resources.resource import ObjectKey, PolicyKey
from capstan_operator.status.types import Problem

KEY = ObjectKey("team", "api")
REFERENCE = Reference("team", "keys", "openai")
FILE = credential_file(KEY, uid="u", secret="keys", secret_key="openai")
LABELLED = Held("b2xk")
UNLABELLED = Held("b2xk", unlabelled=True)
MISSING, FORBIDDEN, FAILED = Reading(missing=True), Reading(forbidden=True), Reading()


def found(value: str = "bmV3", *, labelled: bool = True, key: str = "openai") -> Reading:
    """Give what a Secret with one key says."""
    return Reading(values={key: value}, labelled=labelled)


def judge(
    reading: Reading | None, held: Held | None = None, *, lost_for: float | None = None, require_label: bool = True
) -> tuple[str | None, str | None, bool | None]:
    """Give value, reason, and whether the model answers all the same."""
    rules = Rules(require_label=require_label, grace=600)
    decision = decide(FILE, REFERENCE, reading, held, lost_for=lost_for, rules=rules)
    problem = decision.problem
    return (
        decision.held.value if decision.held else None,
        problem.reason if problem else None,
        problem.partial if problem else None,
    )


@pytest.mark.parametrize(
    ("reading", "held", "expected"),
    [
        (None, None, (None, None, None)),
        (None, LABELLED, ("b2xk", None, None)),
        (found(), None, ("bmV3", None, None)),
        (found(), LABELLED, ("bmV3", None, None)),
        (found(), UNLABELLED, ("bmV3", None, None)),
        (found(labelled=False), None, (None, "SecretNotLabelled", False)),
        (found(labelled=False), UNLABELLED, ("bmV3", "SecretNotLabelled", True)),
        (found(labelled=False), LABELLED, ("b2xk", "SecretNotLabelled", True)),
        (found(labelled=False, key="other"), None, (None, "SecretNotLabelled", False)),
        (found(key="other"), None, (None, "SecretKeyNotFound", False)),
        (found(key="other"), LABELLED, ("b2xk", "SecretKeyNotFound", True)),
        (found("x" * (MOST_VALUE_BYTES + 1)), None, (None, "SecretValueTooLarge", False)),
        (MISSING, None, (None, "SecretNotFound", False)),
        (MISSING, LABELLED, ("b2xk", "SecretNotFound", True)),
        (FORBIDDEN, None, (None, "SecretForbidden", False)),
        (FORBIDDEN, UNLABELLED, ("b2xk", "SecretForbidden", True)),
        (FAILED, None, (None, "SecretUnreadable", False)),
        (FAILED, LABELLED, ("b2xk", "SecretUnreadable", True)),
    ],
)
def test_what_becomes_of_a_credential(
    reading: Reading | None, held: Held | None, expected: tuple[str | None, str | None, bool | None]
) -> None:
    """A value in use stays while its Secret cannot be had; a new one needs a Secret with our label and the key."""
    assert judge(reading, held) == expected


def test_what_entries_of_a_cache_are_sealed_with_is_not_short() -> None:
    """A key that can be guessed is none for a cache, and is one for whoever else asks for it; the message says how long
    it has to be, and not what it is."""
    key = PolicyKey("CachePolicy", "team", "p")
    sealing = policy_credential_file(key, SEALING, secret="keys", secret_key="openai")
    other = policy_credential_file(key, "input-0", secret="keys", secret_key="openai")
    short, enough = (base64.b64encode(b"x" * size).decode() for size in (15, 16))
    for file, value, reason in ((sealing, short, "SecretValueTooShort"), (sealing, enough, None), (other, short, None)):
        decision = decide(file, REFERENCE, found(value), None, lost_for=None, rules=Rules())
        assert (decision.problem.reason if decision.problem else None) == reason
        assert (decision.held is None) == (reason is not None)
        if decision.problem:
            assert "the Secret 'keys' that the policy names" in decision.problem.message
            assert "shorter than 16 bytes" in decision.problem.message
            assert short not in decision.problem.message


@pytest.mark.parametrize("reading", [MISSING, FORBIDDEN, found(labelled=False), found(key="other")])
def test_after_the_grace_a_value_that_can_no_longer_be_had_goes(reading: Reading) -> None:
    """Deleted, forbidden, its label taken away, its key gone: each ends the use of the value, after a while."""
    assert judge(reading, LABELLED, lost_for=599)[0] == "b2xk"
    value, _, partial = judge(reading, LABELLED, lost_for=600)
    assert (value, partial) == (None, False)


def test_a_fault_of_the_api_server_takes_no_value_away_however_long_it_lasts() -> None:
    """A 500 says nothing about the Secret."""
    assert judge(FAILED, LABELLED, lost_for=10**6)[0] == "b2xk"


def test_without_the_requirement_every_secret_will_do() -> None:
    """And it is remembered which values came so, for the day when the label is required."""
    assert judge(found(labelled=False), require_label=False) == ("bmV3", None, None)
    rules = Rules(require_label=False)
    decision = decide(FILE, REFERENCE, found(labelled=False), None, lost_for=None, rules=rules)
    assert decision.held == Held("bmV3", unlabelled=True)
    assert judge(found("cm90YXRlZA==", labelled=False), decision.held) == ("cm90YXRlZA==", "SecretNotLabelled", True)


def test_the_message_has_the_command_and_no_value() -> None:
    """Whoever reads the condition can put it right; nobody learns a key or a key's name from an unlabelled Secret."""
    decision = decide(FILE, REFERENCE, found("c2VjcmV0", labelled=False), None, lost_for=None, rules=Rules())
    assert decision.problem is not None
    assert f"kubectl label secret keys -n team {CREDENTIAL_LABEL}=true" in decision.problem.message
    for text in (repr(decision), repr(found("c2VjcmV0")), repr(Held("c2VjcmV0"))):
        assert "c2VjcmV0" not in text


@pytest.mark.parametrize(
    ("label", "expected"), [("true", True), ("True", False), ("false", False), ("", False), (None, False)]
)
def test_only_true_is_the_label(label: str | None, expected: bool) -> None:
    """A label that says anything else says no."""
    labels = {} if label is None else {CREDENTIAL_LABEL: label}
    reading = read_secret({"metadata": {"labels": labels}, "data": {"a": "YQ==", "empty": ""}})
    assert (reading.labelled, reading.values) == (expected, {"a": "YQ=="})


def test_a_value_of_a_former_release_is_taken_over_for_the_reference_that_it_was_copied_for() -> None:
    """The former release has not said for which: a model that nobody has touched says so, or a Secret that still has
    the very value; a model that was edited meanwhile does not get to another Secret that way."""
    unlabelled = found("b2xk", labelled=False)
    assert adopt(None, REFERENCE, None, is_same=True, goes_elsewhere=False) is None
    assert adopt(None, REFERENCE, "b2xk", is_same=True, goes_elsewhere=False) == UNLABELLED
    assert adopt(unlabelled, REFERENCE, "b2xk", is_same=True, goes_elsewhere=True) is None
    assert adopt(FAILED, REFERENCE, "b2xk", is_same=False, goes_elsewhere=False) is None
    assert adopt(unlabelled, REFERENCE, "b2xk", is_same=False, goes_elsewhere=False) == UNLABELLED
    assert adopt(unlabelled, REFERENCE, "b2xk", is_same=False, goes_elsewhere=True) is None
    assert adopt(found("bmV3", labelled=False), REFERENCE, "b2xk", is_same=False, goes_elsewhere=False) is None


def test_a_file_says_its_model_its_endpoint_and_its_reference() -> None:
    """Another object of the same name, another Secret, another key or another host to send it to is another file; the
    former name is the same."""
    files = {
        credential_file(KEY, endpoint, uid=uid, secret=secret, secret_key=key, url=url)
        for endpoint in (None, "eu")
        for uid in ("u", "v")
        for secret in ("keys", "other")
        for key in ("openai", "x")
        for url in ("https://a.example/v1", "http://a.example", "https://b.example", "https://a.example:444/v1")
    }
    assert len(files) == 64
    assert {owner_of_credential(file) for file in files} == {(KEY, None), (KEY, "eu")}
    assert {plain_credential_file(file) for file in files} == {"team.api", "team.api.eu"}
    assert owner_of_credential("team.api") == (KEY, None)


def test_a_path_is_no_other_host() -> None:
    """Whoever gets the key stays the same: another path, a port that is said, upper case; what cannot be read is."""
    same = ("https://api.example.com/v1", "https://api.example.com:443", "HTTPS://API.example.com/v2?x=1")
    assert {origin_of(url) for url in same} == {"https://api.example.com:443"}
    others = ("https://api.example.com.evil.example", "https://api.example.com@evil.example", "https://x:99999")
    assert len({origin_of(url) for url in (*same, *others)}) == 4


def test_one_problem_is_told_for_each_model() -> None:
    """A model with another endpoint that has its credential answers; what keeps one from it comes first."""
    eu, us = (credential_file(KEY, name, uid="u", secret="s", secret_key="k") for name in ("eu", "us"))
    told = by_owner(
        {
            eu: Decision(UNLABELLED, Problem("SecretNotLabelled", "eu", partial=True)),
            us: Decision(None, Problem("SecretNotFound", "us")),
            FILE.replace("api", "fine"): Decision(LABELLED),
        }
    )
    assert told == {KEY: Problem("SecretNotFound", "us; eu", partial=True)}
