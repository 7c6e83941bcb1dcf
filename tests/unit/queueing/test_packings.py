"""What seals entries, and what happens where that is missing."""

import logging

import pytest

from capstan_contract.config import ModelQueue
from capstan_gateway.queueing.packings import Packings

SEALED = ModelQueue(secretFile="seal")
SECRET = b"a-secret-of-enough-bytes"


def test_nothing_is_written_unsealed_that_is_to_be_sealed(caplog: pytest.LogCaptureFixture) -> None:
    """Without the file, or with one that is too short, there is nothing to write with; that is logged once and noted,
    and never what is in the file."""
    secrets: dict[str, bytes] = {}
    packings = Packings(secrets.get)
    with caplog.at_level(logging.ERROR):
        assert packings.of(SEALED) is packings.of(SEALED) is None
        assert len(caplog.records) == 1
        secrets["seal"] = b"short"
        assert packings.of(SEALED) is None
    assert "short" not in caplog.text
    assert ["seal" in note for note in packings.notes()] == [True]


def test_a_secret_may_come_later_and_change() -> None:
    """A file that was missing is used when it is there, and a new secret from the next entry on."""
    secrets: dict[str, bytes] = {}
    packings = Packings(secrets.get)
    assert packings.of(SEALED) is None
    secrets["seal"] = SECRET
    first = packings.of(SEALED)
    assert first is not None
    assert first is packings.of(SEALED)
    assert packings.notes() == ()
    secrets["seal"] = SECRET[::-1]
    second = packings.of(SEALED)
    assert second is not None
    assert second.unpack("one", "b", second.pack("one", "b", b"text")) == b"text"
    assert second is not first


def test_what_no_model_names_is_forgotten() -> None:
    """A file that no queue names any more is not noted."""
    packings = Packings(lambda _: None)
    packings.of(SEALED)
    packings.retain(set())
    assert packings.notes() == ()
    assert packings.of(ModelQueue()) is not None
