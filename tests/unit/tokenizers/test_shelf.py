"""The tokenizers of all models: found, read again, and no longer used."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from capstan_contract.config import Provider
from capstan_gateway.tokenizers import shelf
from capstan_gateway.tokenizers.encodings import O200K
from capstan_gateway.tokenizers.files import Files, Shipped, Unusable
from capstan_gateway.tokenizers.shelf import Shelf
from capstan_gateway.tokens.counter import CountedBy, PromptCounter
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
    here = shelf_of(tmp_path)
    here.want([entry("m"), entry("other")])
    await here.refresh()
    assert here.of("test/m") is None
    ship_words(tmp_path / "test" / "m")
    await here.refresh()
    first = here.of("test/m")
    assert first is not None
    assert (first.kind, first.count(CHAT), here.of("test/other")) == (CountedBy.FILE, 3, None)
    await here.refresh()
    assert here.of("test/m") is first
    ship_words(tmp_path / "test" / "m", template="a a a a a")
    await here.refresh()
    second = here.of("test/m")
    assert second is not None
    assert (second.count(CHAT), second.version == first.version) == (5, False)
    (tmp_path / "test" / "m" / "tokenizer.json").unlink()
    await here.refresh()
    assert here.of("test/m") is None


async def test_models_of_openai_are_counted_by_ranks(tmp_path: Path) -> None:
    """From the file that is the published one."""
    (tmp_path / "o200k_base.tiktoken").write_bytes(RANKS)
    here = shelf_of(tmp_path)
    here.want([entry("m", backend=hosted_by(Provider.OPENAI, "http://127.0.0.1:1"), upstreamName="gpt-4o")])
    await here.refresh()
    counter = here.of("test/m")
    assert counter is not None
    assert (counter.kind, here.kinds()[CountedBy.TIKTOKEN]) == (CountedBy.TIKTOKEN, 1)


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
    here = shelf_of(tmp_path, faults)
    here.want([entry("m", tokenizer=tokenizer)])
    for _ in range(2):
        await here.refresh()
    assert (faults, here.of("test/m")) == ([(tokenizer, reason)], None)
    assert [tokenizer in note for note in here.notes()] == [True]


async def test_a_broken_file_takes_no_other_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it does to the library that reads it, the tokenizers beside it count, and looking through goes on."""
    for name in ("bad", "good", "odd"):
        ship_words(tmp_path / name, template="{% break %}" if name == "bad" else "a")
    make = shelf._counter

    def odd(name: str, files: Files, published: Mapping[str, str]) -> PromptCounter:
        if name == "odd":
            raise LookupError
        return make(name, files, published)

    monkeypatch.setattr(shelf, "_counter", odd)
    faults: list[tuple[str, str]] = []
    here = shelf_of(tmp_path, faults)
    here.want([entry(name, tokenizer=name) for name in ("bad", "good", "odd")])
    await here.refresh()
    assert [here.of(f"test/{name}") is None for name in ("bad", "good", "odd")] == [True, False, True]
    assert (sorted(faults), len(here.notes())) == ([("bad", "no template"), ("odd", "no tokenizer")], 2)


async def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim that could not be read for a moment, and what there was no room for until another one was gone; what is
    wrong in a file stays wrong until it is another file."""
    for name in ("a", "b", "c"):
        ship_words(tmp_path / name, template="{% break %}" if name == "c" else "a")
    monkeypatch.setattr(shelf, "MAX_TOKENIZERS", 1)
    read, tried = shelf.read, list[str]()

    def failing(files: Files) -> Shipped:
        tried.append(files.state[0][0].split("/")[-2])
        if len(tried) == 1:
            raise Unusable("unreadable", "EIO", may_pass=True)
        return read(files)

    monkeypatch.setattr(shelf, "read", failing)
    here = shelf_of(tmp_path)
    here.want([entry("a", tokenizer="a"), entry("c", tokenizer="c")])
    await here.refresh()
    assert here.of("test/a") is None
    await here.refresh()
    assert (here.of("test/a") is None, tried) == (False, ["a", "c", "a"])
    here.want([entry("a", tokenizer="a"), entry("b", tokenizer="b")])
    await here.refresh()
    assert (here.of("test/b"), len(here.notes())) == (None, 1)
    here.want([entry("b", tokenizer="b")])
    await here.refresh()
    assert (here.of("test/b") is None, here.notes()) == (False, ())


async def test_what_is_held_counts_before_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more are held than may be, whatever their names are."""
    monkeypatch.setattr(shelf, "MAX_TOKENIZERS", 1)
    for name in ("a", "b"):
        ship_words(tmp_path / name)
    here = shelf_of(tmp_path)
    here.want([entry("b", tokenizer="b")])
    await here.refresh()
    here.want([entry("a", tokenizer="a"), entry("b", tokenizer="b")])
    await here.refresh()
    assert (here.of("test/a"), here.of("test/b") is None) == (None, False)


async def test_only_names_of_the_config_are_counted(tmp_path: Path) -> None:
    """So that metrics forget all others."""
    here = shelf_of(tmp_path)
    here.want([entry("m", tokenizer="x"), entry("n")])
    assert here.names() == {"x", "test/n", "test.n"}


async def test_a_fault_that_is_mended_is_forgotten(tmp_path: Path) -> None:
    """The notes say what is, not what was."""
    here = shelf_of(tmp_path)
    here.want([entry("m", tokenizer="x")])
    await here.refresh()
    ship_words(tmp_path / "x")
    await here.refresh()
    assert (here.notes(), here.of("test/m") is None) == ((), False)


async def test_a_tokenizer_of_another_model_is_found_out(tmp_path: Path) -> None:
    """It counts otherwise than the engine tells, again and again: nobody counts by it, until it is right again or is
    replaced."""
    faults: list[tuple[str, str]] = []
    ship_words(tmp_path / "x")
    here = shelf_of(tmp_path, faults)
    here.want([entry("m", tokenizer="x"), entry("n", tokenizer="x")])
    await here.refresh()
    counter = here.to_compare("test/m")
    assert counter is not None
    for _ in range(8):
        here.observe("test/m", counter, counted=50, told=100)
        here.observe("test/n", counter, counted=50, told=50)
    await here.refresh()
    assert (here.of("test/m"), here.of("test/n") is counter) == (None, True)
    assert (faults, len(here.notes()), here.kinds()[CountedBy.FILE]) == ([("x", "distrusted")], 1, 1)
    ship_words(tmp_path / "x", template="a a")
    await here.refresh()
    assert (here.of("test/m") is None, here.notes()) == (False, ())
