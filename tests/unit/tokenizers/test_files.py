"""Which files are the tokenizer of a name, and what is read of them."""

import gzip
from pathlib import Path

import pytest

from capstan_gateway.tokenizers.files import MAX_BYTES, Role, Unusable, read, role_of, scan


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("m/tokenizer.json", ("m", Role.TOKENIZER)),
        ("m/tokenizer.json.gz", ("m", Role.TOKENIZER)),
        ("org/m/tokenizer_config.json", ("org/m", Role.CONFIG)),
        ("org/m/chat_template.jinja", ("org/m", Role.TEMPLATE)),
        ("ns.m.tokenizer.json.gz", ("ns.m", Role.TOKENIZER)),
        ("ns.m.tokenizer_config.json", ("ns.m", Role.CONFIG)),
        ("o200k_base.tiktoken", ("o200k_base", Role.RANKS)),
        ("o200k_base.tiktoken.gz", ("o200k_base", Role.RANKS)),
        ("tokenizer.json", None),
        (".tokenizer.json", None),
        ("m/x.tokenizer.json", None),
        ("m/o200k_base.tiktoken", None),
        ("README.md", None),
        (".tiktoken", None),
    ],
)
def test_names(path: str, found: tuple[str, Role] | None) -> None:
    """By the folder, or where there are none, as in a ConfigMap, by the beginning of the file's name."""
    assert role_of(tuple(path.split("/"))) == found


def test_a_directory_is_looked_through(tmp_path: Path) -> None:
    """Three levels deep, also through the links by which Kubernetes mounts a ConfigMap; the real files count once."""
    real = tmp_path / "..2026"
    real.mkdir()
    (real / "a.tokenizer.json").write_text("{}")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.tokenizer.json").symlink_to("..data/a.tokenizer.json")
    (tmp_path / "org" / "b").mkdir(parents=True)
    (tmp_path / "org" / "b" / "tokenizer.json").write_text("{}")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "tokenizer_config.json").write_text("{}")
    found = scan(tmp_path)
    assert {"a", "org/b"} <= found.keys()
    assert not {"c", "..2026"} & found.keys()
    assert scan(tmp_path / "nowhere") == {}


def test_a_changed_file_has_another_state(tmp_path: Path) -> None:
    """So that it is read again, and nothing else is."""
    (tmp_path / "a.tokenizer.json").write_text("{}")
    before = scan(tmp_path)
    assert scan(tmp_path) == before
    (tmp_path / "a.tokenizer.json").write_text("{ }")
    assert scan(tmp_path)["a"].state != before["a"].state


def test_compressed_files_are_read(tmp_path: Path) -> None:
    """A ConfigMap has room for a MiB."""
    (tmp_path / "a.tokenizer.json.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "a.chat_template.jinja").write_bytes(b"x")
    shipped = read(scan(tmp_path)["a"])
    assert (shipped.tokenizer, shipped.config, shipped.template, shipped.ranks) == (b"{}", None, b"x", False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no gzip", "unreadable"),
        (gzip.compress(b"x" * 100)[:-20], "unreadable"),
        (gzip.compress(bytes(MAX_BYTES[Role.TOKENIZER] + 1)), "too large"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: bytes, reason: str) -> None:
    """Also a bomb: no more is unpacked than may be."""
    (tmp_path / "a.tokenizer.json.gz").write_bytes(content)
    with pytest.raises(Unusable) as raised:
        read(scan(tmp_path)["a"])
    assert raised.value.reason == reason
