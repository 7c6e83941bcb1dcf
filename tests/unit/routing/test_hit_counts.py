"""What engines say of the hits of their prefix caches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.routing.hit_counts import Hits, HitWindow, ratio_of, read_hits, read_kv_use

VLLM = b"""# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="a"} 100.0
vllm:prefix_cache_queries_total{engine="1",model_name="a } b"} 1e+02
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{engine="0",model_name="a"} 1.7e+09
vllm:prefix_cache_hits_total{engine="0",model_name="a"} 40.0
vllm:prefix_cache_hits_total{engine="1",model_name="a"} 20.0
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VLLM, Hits(60, 200)),
        (VLLM + b'vllm:external_prefix_cache_hits_total{engine="0"} 10.0\n', Hits(70, 200)),
        (b"vllm:gpu_prefix_cache_hits_total 1.0\nvllm:gpu_prefix_cache_queries_total 4.0", Hits(1, 4)),
        (
            b'sglang:prompt_tokens_total{model_name="m"} 8.0\nsglang:cached_tokens_total{cache_source="device"} 2.0\n'
            b'sglang:cached_tokens_total{cache_source="host"} 1.0\n',
            Hits(3, 8),
        ),
        (b"vllm:prefix_cache_queries_total 5.0\n", Hits(0, 5)),
        (b"vllm:prefix_cache_queries_total five\n", None),
        (b"vllm:prefix_cache_queries_total{\n", None),
        (b"vllm:prefix_cache_queries_totally 5.0\n", None),
        (b"tgi_queue_size 5\n", None),
        (b"", None),
    ],
)
def test_each_engine_is_read_by_its_own_names(text: bytes, expected: Hits | None) -> None:
    """All series of a counter together; nothing of an engine that does not say, or says no number."""
    assert read_hits(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="1"} 1.0\n', 0.75),
        (b"vllm:gpu_cache_usage_perc 0.25\n", 0.25),
        (b'sglang:token_usage{model_name="m"} 0.125\n', 0.125),
        (b"vllm:kv_cache_usage_perc NaN\nvllm:gpu_cache_usage_perc 0.5\n", 0.5),
        (b"vllm:kv_cache_usage_perc 1.5\n", 1.0),
        (b"vllm:kv_cache_usage_perc -1\n", 0.0),
        (b"vllm:kv_cache_usage_perc much\n", None),
        (b"vllm:kv_cache_usage_percent 0.5\n", None),
        (b"tgi_queue_size 5\n", None),
        (b"", None),
    ],
)
def test_how_full_a_cache_is(text: bytes, expected: float | None) -> None:
    """The average of the engines of a replica, from 0 to 1; nothing of one that does not say, or says no number."""
    assert read_kv_use(text) == expected


@given(st.binary(max_size=300))
def test_no_text_is_too_odd(noise: bytes) -> None:
    """Whatever an engine answers is read, or is nothing."""
    found = read_kv_use(b"vllm:kv_cache_usage_perc" + noise)
    assert found is None or 0.0 <= found <= 1.0
    read_hits(noise)
    read_hits(b"vllm:prefix_cache_queries_total" + noise)
    read_hits(VLLM + noise + b"\nvllm:prefix_cache_hits_total" + noise)


def test_the_share_is_of_the_last_minutes() -> None:
    """What was before the window does not count, nor what an engine had counted before it was first asked."""
    window = HitWindow(100.0)
    assert window.latest.ratio is None
    window.add(0.0, Hits(1000, 1000))
    assert window.latest.ratio is None
    window.add(50.0, Hits(1000, 1100))
    assert window.latest == Hits(0, 100)
    window.add(150.0, Hits(1050, 1200))
    assert window.latest == Hits(50, 100)
    window.add(500.0, Hits(1050, 1200))
    assert window.latest.ratio is None


def test_an_engine_that_begins_anew_counts_from_nothing() -> None:
    """A counter that falls is a new process: what it says is all within the window."""
    for before, after in ((Hits(500, 1000), Hits(30, 40)), (Hits(0, 1000), Hits(0, 40)), (Hits(9, 10), Hits(1, 99))):
        window = HitWindow(100.0)
        window.add(0.0, before)
        window.add(10.0, after)
        assert window.latest == after


def test_engines_count_by_what_they_were_asked() -> None:
    """A busy engine's share weighs more than that of one that had a single request."""
    windows = [HitWindow(100.0), HitWindow(100.0)]
    for window, hits in zip(windows, (Hits(90, 100), Hits(0, 1)), strict=True):
        window.add(0.0, Hits())
        window.add(1.0, hits)
    assert ratio_of(windows) == pytest.approx(90 / 101)
    assert ratio_of([]) is None


COUNTS = st.lists(st.tuples(st.floats(0, 60), st.integers(0, 50), st.integers(0, 50)), max_size=60)


@given(COUNTS)
def test_the_share_is_between_none_and_all_and_little_is_kept(steps: list[tuple[float, int, int]]) -> None:
    """Whatever the engine counts, in whatever pace; a window keeps what it needs."""
    window, now, total = HitWindow(100.0), 0.0, Hits()
    for pause, hit, missed in steps:
        now += pause
        total = Hits() if (hit, missed) == (0, 0) else total + Hits(hit, hit + missed)
        window.add(now, total)
        ratio = window.latest.ratio
        assert ratio is None or 0 <= ratio <= 1
        assert all(at > now - 100.0 for at, _ in list(window._counts)[1:])
