"""Pages of counters, as readers take them."""

import json

import pytest

from capstan_contract.tracks import (
    NOTHING,
    Arm,
    Counters,
    Experiment,
    ExperimentsReport,
    Measure,
    Quantity,
    Track,
    TracksError,
    TracksReport,
    quantile,
    read_experiments,
    read_tracks,
)

COUNTED = Counters(measures={Quantity.ERROR: Measure(count=2, sum=1, squares=1, buckets=((3, 2, 1),))})


def test_pages_are_read_as_they_were_written() -> None:
    """Both pages come back from their JSON."""
    tracks = TracksReport(boot="b", models={"n/m": (Track(track="canary", revision="2", counters=COUNTED),)})
    experiments = ExperimentsReport(
        boot="b", experiments=(Experiment(router="n/r", arms=(Arm(member="n/m", weight=3, counters=COUNTED),)),)
    )
    assert read_tracks(tracks.model_dump_json()) == tracks
    assert read_experiments(experiments.model_dump_json()) == experiments


def test_what_a_newer_release_counts_is_left_out() -> None:
    """Measures and fields that a reader does not know change nothing of what it knows."""
    page = TracksReport(boot="b", models={"n/m": (Track(track="stable", counters=COUNTED),)}).model_dump(mode="json")
    page["also"] = 1
    page["models"]["n/m"][0]["counters"]["measures"]["vibes"] = {"count": "many"}
    page["models"]["n/m"][0]["counters"]["measures"]["error"]["cubes"] = 1
    assert read_tracks(json.dumps(page)).models["n/m"][0].counters == COUNTED


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("<html>", "JSON"),
        ("[]", "version"),
        ('{"version": 2}', "version"),
        ('{"version": true}', "version"),
        ('{"version": 1, "models": {"n/m": [{"track": "stable", "counters": 3}]}}', "models.n/m.0.counters"),
        ('{"version":1,"models":{"m":[{"track":"s","counters":{"measures":{"error":{"count":-1}}}}]}}', "count"),
    ],
)
def test_what_is_no_page_is_refused(text: str, word: str) -> None:
    """A page that cannot be read is refused by what is wrong with it, and where."""
    with pytest.raises(TracksError, match=word):
        read_tracks(text)


def test_a_page_of_experiments_that_cannot_be_read_is_refused() -> None:
    """A bucket that there cannot be is no bucket."""
    bad = '{"version":1,"experiments":[{"router":"r","arms":[{"member":"m","counters":{"measures":{"error":\
{"count":1,"buckets":[[128,1,0]]}}}}]}]}'
    with pytest.raises(TracksError, match="buckets"):
        read_experiments(bad)


def test_nothing_has_no_mean_and_no_quantile() -> None:
    """Of no values nothing is said."""
    assert NOTHING.mean is None
    assert quantile(NOTHING, 0.5) is None
    assert Counters().requests == 0
    assert COUNTED.requests == 2
    assert COUNTED.of(Quantity.ERROR).mean == 0.5
