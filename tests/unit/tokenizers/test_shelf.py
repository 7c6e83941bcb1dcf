"""The tokenizers of all models: found, read again, and no longer used."""

from pathlib import Path

import pytest

from capstan_contract.config import Provider
from capstan_gateway.tokenizers.encodings import O200K
from capstan_gateway.tokenizers.shelf import Shelf
from capstan_gateway.tokens.counter import CountedBy
from support.gateway import entry, hosted_by
from support.tokenizers import hash_of, ranks_file, ship_words

CHAT = {"messages": [{"role": "user", "content": "a"}]}
RANKS = ranks_file("he")


def shelf_of(directory: Path, faults: list[tuple[str, str]] | None = None) -> Shelf:
    """Give the tokenizers of a directory, and note what is wrong with them."""
    noted = [] if faults is None else faults
    return Shelf(directory, count=lambda name, reason: noted.append((name, reason)), published={O200K: hash_of(RANKS)})


async def test_a_model_is_counted_by_its_own(tmp_path: Path) -> None:
    """As soon as the files are there, until they are gone, and by the new ones when they are replaced."""
    shelf = shelf_of(tmp_path)
    shelf.want([entry("m"), entry("other")])
    await shelf.refresh()
    assert shelf.of("test/m") is None
    ship_words(tmp_path / "test" / "m")
    await shelf.refresh()
    first = shelf.of("test/m")
    assert first is not None
    assert (first.kind, first.count(CHAT), shelf.of("test/other")) == (CountedBy.FILE, 3, None)
    await shelf.refresh()
    assert shelf.of("test/m") is first
    ship_words(tmp_path / "test" / "m", template="a a a a a")
    await shelf.refresh()
    second = shelf.of("test/m")
    assert second is not None
    assert (second.count(CHAT), second.version == first.version) == (5, False)
    (tmp_path / "test" / "m" / "tokenizer.json").unlink()
    await shelf.refresh()
    assert shelf.of("test/m") is None


async def test_models_of_openai_are_counted_by_ranks(tmp_path: Path) -> None:
    """From the file that is the published one."""
    (tmp_path / "o200k_base.tiktoken").write_bytes(RANKS)
    shelf = shelf_of(tmp_path)
    shelf.want([entry("m", backend=hosted_by(Provider.OPENAI, "http://127.0.0.1:1"), upstreamName="gpt-4o")])
    await shelf.refresh()
    counter = shelf.of("test/m")
    assert counter is not None
    assert (counter.kind, shelf.kinds()[CountedBy.TIKTOKEN]) == (CountedBy.TIKTOKEN, 1)


@pytest.mark.parametrize(
    ("file", "content", "tokenizer", "reason"),
    [
        ("x.tokenizer.json", b"{}", "x", "no tokenizer"),
        ("x.tokenizer.json.gz", b"{}", "x", "unreadable"),
        ("o200k_base.tiktoken", ranks_file("ho"), "o200k_base", "another file"),
        ("x.tiktoken", RANKS, "x", "unknown encoding"),
        ("y.tokenizer.json", b"{}", "x", "missing"),
    ],
)
async def test_a_file_that_cannot_be_used_is_said_once(
    tmp_path: Path, file: str, content: bytes, tokenizer: str, reason: str
) -> None:
    """In the metric, the log and the notes; and nobody counts by it."""
    faults: list[tuple[str, str]] = []
    (tmp_path / file).write_bytes(content)
    shelf = shelf_of(tmp_path, faults)
    shelf.want([entry("m", tokenizer=tokenizer)])
    for _ in range(2):
        await shelf.refresh()
    assert (faults, shelf.of("test/m")) == ([(tokenizer, reason)], None)
    assert [tokenizer in note for note in shelf.notes()] == [True]


async def test_only_names_of_the_config_are_counted(tmp_path: Path) -> None:
    """So that metrics forget all others."""
    shelf = shelf_of(tmp_path)
    shelf.want([entry("m", tokenizer="x"), entry("n")])
    assert shelf.names() == {"x", "test/n", "test.n"}


async def test_a_fault_that_is_mended_is_forgotten(tmp_path: Path) -> None:
    """The notes say what is, not what was."""
    shelf = shelf_of(tmp_path)
    shelf.want([entry("m", tokenizer="x")])
    await shelf.refresh()
    ship_words(tmp_path / "x")
    await shelf.refresh()
    assert (shelf.notes(), shelf.of("test/m") is None) == ((), False)


async def test_a_tokenizer_of_another_model_is_found_out(tmp_path: Path) -> None:
    """It counts otherwise than the engine tells, again and again: nobody counts by it, until it is right again or is
    replaced."""
    faults: list[tuple[str, str]] = []
    ship_words(tmp_path / "x")
    shelf = shelf_of(tmp_path, faults)
    shelf.want([entry("m", tokenizer="x"), entry("n", tokenizer="x")])
    await shelf.refresh()
    counter = shelf.to_compare("test/m")
    assert counter is not None
    for _ in range(8):
        shelf.observe("test/m", counter, counted=50, told=100)
        shelf.observe("test/n", counter, counted=50, told=50)
    await shelf.refresh()
    assert (shelf.of("test/m"), shelf.of("test/n") is counter) == (None, True)
    assert (faults, len(shelf.notes()), shelf.kinds()[CountedBy.FILE]) == ([("x", "distrusted")], 1, 1)
    ship_words(tmp_path / "x", template="a a")
    await shelf.refresh()
    assert (shelf.of("test/m") is None, shelf.notes()) == (False, ())
