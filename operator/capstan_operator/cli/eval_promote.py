"""`capstan eval promote`: bad answers become cases of a suite, by lines at the end of a file of its data."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from capstan_contract.feedback import Feedback, Label, read_feedback
from capstan_contract.samples import Sample
from capstan_contract.yamldoc import YamlFault, read_yaml
from capstan_evaluation.errors import SuiteInvalid
from capstan_evaluation.suites.load import load_suite
from capstan_evaluation.suites.promoted import PROMOTED, Promotion, Prompt, asked_by, promote
from capstan_evaluation.suites.resolve import resolve_suite
from capstan_evaluation.suites.rows import Unreadable
from capstan_evaluation.suites.suite import Suite

_ROLES: Final = ("system", "developer", "user", "assistant")
_SHOWN: Final = 20
_EPILOG: Final = """\
FEEDBACK is what `capstan feedback export` writes. The text of a prompt is in no feedback: it comes from --samples
(lines of JSON, samples of `spec.evaluation`, found by the id of the request) or --prompts (lines such as
{"response_id": "chatcmpl-1", "prompt": "..."}, with `messages` in place of `prompt`, `request_id` in place of
`response_id`, and `expected` where somebody knows what is right). Cases are added to the file of JSON lines that the
suite names in `data`; the suite itself is not rewritten. What they come from is written beside it, into
FILE.provenance.jsonl. Exit code: 0 done, 1 ids without text are left, 2 nothing can be done."""


class Failed(Exception):
    """It cannot be done; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("feedback", type=Path, metavar="FEEDBACK", help="file of `capstan feedback export`")
    parser.add_argument("--suite", type=Path, required=True, metavar="FILE", help="the suite")
    parser.add_argument(
        "--data", metavar="NAME", help="which of its files of data gets the cases, where it has several of JSON lines"
    )
    parser.add_argument("--samples", type=Path, metavar="FILE", help="samples with texts of prompts")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="texts of prompts by ids")
    parser.add_argument(
        "--label", action="append", choices=[label.value for label in Label], help="which answers (default: bad)"
    )
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Add cases; 1 when ids without text are left, 2 when it cannot be done."""
    try:
        name, suite = _target(arguments.suite, arguments.data)
        feedback = list(_feedback(arguments.feedback))
        prompts = {**_samples(arguments.samples), **_prompts(arguments.prompts)}
        labels = [Label(label) for label in arguments.label or (Label.BAD,)]
        found = promote(feedback, prompts, asked_by(suite), labels=labels)
        path = arguments.suite.parent / name
        if found.rows:
            _check(arguments.suite, name, path, found)
            _append(path, found.rows)
            _append(path.with_name(f"{path.name}.provenance.jsonl"), found.provenance)
    except (Failed, SuiteInvalid, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(found.rows)} cases added to {path}, with the tag {PROMOTED}; {found.known} are asked already")
    if found.without_text:
        shown = ", ".join(found.without_text[:_SHOWN])
        more = f" and {len(found.without_text) - _SHOWN} more" if len(found.without_text) > _SHOWN else ""
        print(f"no text of the prompt is known of {shown}{more}: give it with --prompts FILE", file=sys.stderr)
        return 1
    return 0


def _target(path: Path, chosen: str | None) -> tuple[str, Suite | None]:
    """Give which file of a suite's data gets the cases, and the suite; None while it has no case as yet."""
    try:
        documents = list(read_yaml(path.read_text(encoding="utf-8")))
    except (YamlFault, UnicodeDecodeError) as error:
        raise Failed(f"{path}: {error}") from None
    head: Any = documents[0].data if len(documents) == 1 else None
    data = head.get("data") if isinstance(head, dict) else None
    entries = data if isinstance(data, list) else [data] if isinstance(data, dict) else []
    names = [
        str(one["file"]) for one in entries
        if isinstance(one, dict) and isinstance(one.get("file"), str) and one.get("columns") is None
        and one["file"].lower().endswith((".jsonl", ".ndjson"))
    ]  # fmt: skip
    if chosen is not None and chosen not in names:
        raise Failed(f"{path}: `data` names no file {chosen} of JSON lines without `columns`; {_add_words()}")
    if chosen is None and len(names) != 1:
        which = f"several ({', '.join(names)}): say --data" if names else f"none: {_add_words()}"
        raise Failed(f"{path}: cases go to a file of JSON lines without `columns` in `data`, and it names {which}")
    name = chosen or names[0]
    file = path.parent / name
    if not file.exists() or not file.read_bytes().strip():
        return name, _others(path, name)
    return name, load_suite(path)


def _others(path: Path, name: str) -> Suite | None:
    """Give the suite without the file that has nothing as yet; None where it has no other case."""
    try:
        return _resolved(path, {name: ""})
    except SuiteInvalid as error:
        if all("gives no case" in fault.message for fault in error.faults):
            return None
        raise


def _add_words() -> str:
    return "add `data: [{file: promoted.jsonl}]` to it"


def _resolved(path: Path, texts: Mapping[str, str]) -> Suite:
    def read(name: str) -> str:
        if name in texts:
            return texts[name]
        try:
            return (path.parent / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Unreadable(0, f"cannot be read: {type(error).__name__}") from None

    return resolve_suite(path.read_text(encoding="utf-8"), file=str(path), read=read)


def _check(path: Path, name: str, file: Path, found: Promotion) -> None:
    """See that the suite is one with the new cases, before anything is written. Raises SuiteInvalid."""
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    _resolved(path, {name: before + _break(before) + "".join(f"{json.dumps(row)}\n" for row in found.rows)})


def _break(text: str) -> str:
    return "" if not text or text.endswith("\n") else "\n"


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write lines at the end of a file, and have them on the disk."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with path.open("a", encoding="utf-8") as file:
        file.write(_break(before) + "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
        file.flush()
        os.fsync(file.fileno())


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Failed(f"{path}: is not written in UTF-8") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise Failed(f"{path}:{number}: is no line of JSON") from None
        if not isinstance(row, dict):
            raise Failed(f"{path}:{number}: must be a JSON object")
        yield number, row


def _feedback(path: Path) -> Iterator[Feedback]:
    for number, row in _lines(path):
        one = read_feedback(row)
        if one is None:
            raise Failed(f"{path}:{number}: is none of what `capstan feedback export` writes")
        yield one


def _samples(path: Path | None) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    for number, row in () if path is None else _lines(path):
        try:
            sample = Sample.model_validate(row, extra="ignore")
        except ValueError:
            raise Failed(f"{path}:{number}: is no sample") from None
        messages = [{"role": turn.role, "content": turn.text} for turn in sample.prompt]
        found[sample.id] = _prompt(messages, None, f"{path}:{number}")
    return found


def _prompts(path: Path | None) -> dict[str, Prompt]:
    found: dict[str, Prompt] = {}
    for number, row in () if path is None else _lines(path):
        where = f"{path}:{number}"
        ids = [row[name] for name in ("response_id", "request_id") if isinstance(row.get(name), str) and row[name]]
        if not ids:
            raise Failed(f"{where}: needs `response_id` or `request_id`")
        expected = row.get("expected")
        if expected is not None and not isinstance(expected, str):
            raise Failed(f"{where}: `expected` must be a text")
        messages = row.get("messages")
        if messages is None and isinstance(row.get("prompt"), str) and row["prompt"]:
            messages = [{"role": "user", "content": row["prompt"]}]
        if not isinstance(messages, list):
            raise Failed(f"{where}: needs `prompt`, a text, or `messages`, a list")
        prompt = _prompt(messages, expected, where)
        found.update(dict.fromkeys(ids, prompt))
    return found


def _prompt(messages: list[Any], expected: str | None, where: str) -> Prompt:
    said = []
    for one in messages:
        if not isinstance(one, dict) or one.get("role") not in _ROLES or not isinstance(one.get("content"), str):
            raise Failed(f"{where}: each of `messages` has a `role` ({', '.join(_ROLES)}) and a text as `content`")
        said.append({"role": str(one["role"]), "content": str(one["content"])})
    if not said or said[-1]["role"] != "user":
        raise Failed(f"{where}: `messages` must end with one of the role user")
    return Prompt(tuple(said), expected)
