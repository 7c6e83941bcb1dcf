"""The lines of a batch, however their bytes come, and what is kept of which are done."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.batches.lines import Fault, LineRequest, LineTooLong, Splitter, Validator, read_line
from capstan_gateway.batches.results import Done
from capstan_gateway.batches.status import BEFORE, ENDS, Status, may_follow

ENDPOINT = "/v1/chat/completions"
TEXTS = st.lists(st.binary(max_size=30).map(lambda one: one.replace(b"\n", b" ")), max_size=12)
CUTS = st.lists(st.integers(0, 400), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


@given(TEXTS, CUTS, st.booleans())
def test_lines_do_not_depend_on_how_they_come(texts: list[bytes], cuts: list[int], ended: bool) -> None:
    """Each line that is not blank is given once, with its number, wherever its bytes are cut."""
    data = b"\n".join(texts) + (b"\n" if ended else b"")
    splitter = Splitter(1000)
    found = [line for piece in pieces(data, cuts) for line in splitter.feed(piece)] + list(splitter.finish())
    assert found == [(number, text) for number, text in enumerate(texts, 1) if text.strip()]


@given(st.integers(1, 50), st.integers(0, 100), CUTS)
def test_no_line_is_longer_than_it_may_be(most: int, size: int, cuts: list[int]) -> None:
    """A line of more bytes than that is refused by its number, and no other one is."""
    splitter = Splitter(most)
    found: list[tuple[int, bytes]] = []
    try:
        for piece in pieces(b"a\n" + b"b" * size, cuts):
            found.extend(splitter.feed(piece))
        found.extend(splitter.finish())
    except LineTooLong as error:
        assert (error.line, size > most) == (2, True)  # noqa: PT017 - both ends are looked at
    else:
        assert size <= most
        assert found == [(1, b"a"), (2, b"b" * size)][: 2 if size else 1]


@given(JSON, st.dictionaries(st.sampled_from(["custom_id", "method", "url", "body"]), JSON))
def test_whatever_a_line_is_it_is_read_or_refused(anything: Any, changed: dict[str, Any]) -> None:
    """Reading never raises; what is read names a model and is of the batch's endpoint, what is not has its line."""
    usual = {"custom_id": "a", "method": "POST", "url": ENDPOINT, "body": {"model": "m"}}
    for document in (anything, {**usual, **changed}):
        found = read_line(json.dumps(document).encode(), 7, ENDPOINT)
        if isinstance(found, LineRequest):
            assert document["body"]["model"] == found.model
            assert json.loads(found.body) == document["body"]
            assert (document["custom_id"], document["url"]) == (found.custom_id, found.url)
        else:
            assert isinstance(found, Fault)
            assert found.line == 7


@pytest.mark.parametrize("value", ["[" * 300 + "]" * 300, "[" + "{}," * 200_000 + "{}]"])
def test_a_line_that_costs_too_much_is_refused(value: str) -> None:
    """What could not be written again, or takes many times its size when it is read, is a fault as any other."""
    text = '{"custom_id":"a","method":"POST","url":"%s","body":{"model":"m","x":%s}}'
    found = read_line((text % (ENDPOINT, value)).encode(), 7, ENDPOINT)
    assert isinstance(found, Fault)
    assert (found.code, found.line) == ("invalid_value", 7)
    assert isinstance(read_line((text % (ENDPOINT, f'"{value}"')).encode(), 7, ENDPOINT), LineRequest)


def test_a_file_may_begin_with_a_mark() -> None:
    """The byte order mark that some editors write before the first line is no fault; elsewhere it is."""
    line = b'\xef\xbb\xbf{"custom_id":"a","method":"POST","url":"%s","body":{"model":"m"}}' % ENDPOINT.encode()
    assert isinstance(read_line(line, 1, ENDPOINT), LineRequest)
    assert isinstance(read_line(line, 2, ENDPOINT), Fault)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("mn")), min_size=1, max_size=12), st.integers(1, 12))
def test_an_input_is_taken_if_all_its_lines_go_together(lines: list[tuple[str, str]], most: int) -> None:
    """There is no fault exactly where ids are unique, the model is one, and there are no more lines than may be."""
    validator = Validator(ENDPOINT, most_lines=most)
    for number, (custom_id, model) in enumerate(lines, 1):
        document = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": {"model": model}}
        validator.take(number, json.dumps(document).encode())
    validator.finish()
    validator.check_model(lambda name: name == "m")
    assert [fault.line for fault in validator.faults] == sorted(fault.line or 0 for fault in validator.faults)
    fine = len({one for one, _ in lines}) == len(lines) <= most and {model for _, model in lines} == {"m"}
    assert (validator.faults == []) == fine
    assert validator.total == len(lines)


@given(st.sets(st.integers(1, 300)), st.sets(st.integers(1, 300)))
def test_which_lines_are_done_is_kept(before: set[int], after: set[int]) -> None:
    """Lines that were marked are done, also when that was written and read again between; no other ones are."""
    done = Done()
    for number in before:
        done.add(number)
    again = Done(done.written())
    for number in after:
        again.add(number)
    assert {number for number in range(400) if number in again} == before | after
    assert {number for number in range(400) if number in done} == before


def test_every_state_comes_to_an_end() -> None:
    """From each state that is no end an end can be reached, nothing follows an end, and nothing leads back."""
    for status in Status:
        after = {one for one in Status if may_follow(status, one)}
        assert bool(after) == (status not in ENDS)
        reached, waiting = set[Status](), list(after)
        while waiting:
            one = waiting.pop()
            if one not in reached:
                reached.add(one)
                waiting.extend(next_ for next_ in Status if may_follow(one, next_))
        assert status not in reached
        assert (reached & ENDS != set()) == (status not in ENDS)
    assert [status for status in Status if not BEFORE[status]] == [Status.VALIDATING]
