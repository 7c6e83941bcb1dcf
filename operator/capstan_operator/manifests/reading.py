"""Files and folders as objects, with what cannot be read. Reading is one function (`read_texts`), the rest is pure."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from capstan_contract.yamldoc import YamlFault, json_as_yaml, read_yaml
from capstan_operator.manifests.documents import Diagnostic, Document

SUFFIXES = (".yaml", ".yml", ".json")
MOST_FILE_BYTES = 4 * 1024 * 1024
MOST_FILES = 10_000


def read_texts(paths: Iterable[Path]) -> tuple[dict[str, str], list[Diagnostic]]:
    """Read the files, and every manifest in the folders and below, in the order of their names.

    Hidden files and folders are passed over; folders that are links are not followed. A file that was named is read
    whatever its suffix.
    """
    texts: dict[str, str] = {}
    diagnostics: list[Diagnostic] = []
    for path in paths:
        if not path.exists():
            diagnostics.append(Diagnostic(str(path), 0, "does not exist"))
            continue
        files = list(_files_below(path)) if path.is_dir() else [path]
        if not files:
            diagnostics.append(Diagnostic(str(path), 0, f"has no file that ends in {', '.join(SUFFIXES)}"))
        for file in files:
            if len(texts) >= MOST_FILES:
                diagnostics.append(Diagnostic(str(path), 0, f"holds more than {MOST_FILES} files"))
                return texts, diagnostics
            if str(file) not in texts:
                _read_file(file, texts, diagnostics)
    return texts, diagnostics


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield Path(parent) / name


def _read_file(file: Path, texts: dict[str, str], diagnostics: list[Diagnostic]) -> None:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            diagnostics.append(Diagnostic(str(file), 0, "is not a regular file"))
            return
        with file.open("rb") as stream:
            content = stream.read(MOST_FILE_BYTES + 1)
        if len(content) > MOST_FILE_BYTES:
            diagnostics.append(Diagnostic(str(file), 0, f"has more than {MOST_FILE_BYTES} bytes"))
            return
        texts[str(file)] = content.decode("utf-8-sig")
    except OSError as error:
        diagnostics.append(Diagnostic(str(file), 0, f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        diagnostics.append(Diagnostic(str(file), line, "is not UTF-8"))


def parse_text(text: str, *, file: str) -> tuple[list[Document], list[Diagnostic]]:
    """Take a file's text apart into objects. After a YAML fault the rest of the file is not read."""
    documents: list[Document] = []
    diagnostics: list[Diagnostic] = []
    if file.endswith(".json"):
        text = json_as_yaml(text)
    number = 0
    try:
        for document in read_yaml(text):
            number = document.number
            if isinstance(document.data, dict):
                whole = Document(file, number, document.line, document.data, document.lines)
                documents += _objects_in(whole, diagnostics)
            else:
                diagnostics.append(
                    Diagnostic(file, document.line, "must be an object with apiVersion and kind", number)
                )
    except YamlFault as fault:
        diagnostics.append(Diagnostic(file, fault.line, fault.message, number + 1))
    return documents, diagnostics


def _objects_in(document: Document, diagnostics: list[Diagnostic]) -> Iterator[Document]:
    """Give the object itself, or the items of a List."""
    items = document.manifest.get("items")
    if document.manifest.get("kind") != "List" or not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        if isinstance(item, dict):
            yield replace(document, manifest=item, line=document.line_of(prefix), prefix=f"{prefix}.")
        else:
            line = document.line_of(prefix)
            diagnostics.append(Diagnostic(document.file, line, "must be an object", document.number, "List", prefix))
