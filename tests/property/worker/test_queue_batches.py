"""Requests that go to an engine several in a call."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan_worker.queue.batches import BatchCollector
from capstan_worker.queue.joining import NotSplit, join, read_part, split

texts = st.text(max_size=8)
inputs = texts | st.lists(texts, min_size=1, max_size=4)
models = st.sampled_from(["a", "b"])
EMBEDDINGS = "/v1/embeddings"


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 7), st.floats(0, 3), st.booleans()), max_size=40),
)
def test_each_goes_once_in_time_and_in_company_of_its_kind(
    size: int, steps: list[tuple[str, int, float, bool]]
) -> None:
    """Whatever comes when: a batch is of one kind and no larger than allowed, nobody waits longer than is said, each
    goes exactly once, in the order in which it came; what was dropped goes never."""
    collector: BatchCollector[tuple[str, int, int, float]] = BatchCollector(size, 1.0)
    now, came, gone, dropped = 0.0, [], [], []
    for number, (kind, large, pause, drop) in enumerate(steps):
        now += pause
        out = [(batch, now) for batch in collector.due(now)]
        item = (kind, number, large, now)
        came.append(item)
        out += [(batch, now) for batch in collector.add(kind, item, large, now)]
        gone += out
        due = collector.next_due()
        assert due is None or due > now - 1e-9
        if drop and collector.drop(item):
            dropped.append(item)
    gone += [(batch, now + 1.0) for batch in collector.due(now + 1.0)]
    assert len(collector) == 0
    flat = [item for batch, _ in gone for item in batch]
    assert sorted(flat + dropped) == sorted(came)
    for batch, at in gone:
        assert len({kind for kind, *_ in batch}) == 1
        assert len(batch) == 1 or sum(large for _, _, large, _ in batch) <= size
        assert [number for _, number, *_ in batch] == sorted(number for _, number, *_ in batch)
        assert all(at - since < 1.0 + 3.0 for *_, since in batch)


def _answer(body: bytes) -> bytes:
    """Answer as an engine does: a row for each input, which says what the input was."""
    asked = json.loads(body)
    if "input" in asked:
        rows = [{"embedding": [text]} for text in _list(asked["input"])]
    else:
        left, right = _list(asked["text_1"]), _list(asked["text_2"])
        rows = [{"score": [one, other]} for one, other in zip(left * (len(right) // len(left)), right, strict=True)]
    data = [{"index": number, **row} for number, row in enumerate(rows)]
    return json.dumps(
        {"object": "list", "model": asked["model"], "data": data, "usage": {"prompt_tokens": 100}}
    ).encode()


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


@given(st.lists(inputs, min_size=1, max_size=6), models)
def test_embeddings_come_out_as_if_each_was_asked_by_itself(asked: list[Any], model: str) -> None:
    """Each request gets its own rows, counted from 0, and all tokens that the engine has counted are somebody's."""
    bodies = [json.dumps({"model": model, "input": one}).encode() for one in asked]
    parts = [part for body in bodies if (part := read_part(EMBEDDINGS, body))]
    assert len({part.kind for part in parts}) == 1
    answers = [json.loads(answer) for answer in split(_answer(join(parts)), parts)]
    assert [answer["data"] for answer in answers] == [json.loads(_answer(body))["data"] for body in bodies]
    assert sum(answer["usage"]["prompt_tokens"] for answer in answers) == 100


@given(st.lists(st.tuples(texts, inputs), min_size=1, max_size=6))
def test_scores_come_out_as_if_each_was_asked_by_itself(asked: list[tuple[str, Any]]) -> None:
    """One text with one or with several, of several requests, in one call."""
    bodies = [json.dumps({"model": "m", "text_1": one, "text_2": other}).encode() for one, other in asked]
    parts = [part for body in bodies if (part := read_part("/score", body))]
    assert len(parts) == len(bodies)
    answers = [json.loads(answer) for answer in split(_answer(join(parts)), parts)]
    assert [answer["data"] for answer in answers] == [json.loads(_answer(body))["data"] for body in bodies]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner)
    )
)
def test_what_is_no_such_request_is_left_alone(document: Any) -> None:
    """Whatever a body is, it is read as one that can be joined or it is not; nothing else happens."""
    for body in (json.dumps(document).encode(), json.dumps({"input": document}).encode(), b"\xff"):
        part = read_part(EMBEDDINGS, body)
        assert part is None or part.size >= 1


@given(models, models, st.sampled_from([None, 2]))
def test_only_what_says_the_same_goes_together(one: str, other: str, dimensions: int | None) -> None:
    """Another model, or any other parameter, is another kind."""
    first = read_part(EMBEDDINGS, json.dumps({"model": one, "input": "x"}).encode())
    said = {"model": other, "input": "y", **({"dimensions": dimensions} if dimensions else {})}
    second = read_part(EMBEDDINGS, json.dumps(said).encode())
    assert first is not None
    assert second is not None
    assert (first.kind == second.kind) == (one == other and dimensions is None)


@given(st.sampled_from([b"", b"[]", b"{}", b'{"data":[]}', b'{"data":[{"index":1},{"index":0}]}', b'{"data":[{},{}]}']))
def test_an_answer_without_a_row_for_each_is_not_taken_apart(body: bytes) -> None:
    """Nobody gets another one's row: then each is asked by itself."""
    parts = [read_part(EMBEDDINGS, json.dumps({"input": text}).encode()) for text in "ab"]
    try:
        split(body, [part for part in parts if part])
    except NotSplit:
        return
    raise AssertionError("it was taken apart")
