"""`capstan eval judge-check`: a judge beside people, on pairs of answers of which they said which is better."""

import argparse
import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from capstan_evaluation.errors import EvaluationError, LabelsInvalid, NotAnswered
from capstan_evaluation.judges.check import JudgeCheck, Judged, check_judge, trivial
from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.judges.labels import Pair, read_pairs
from capstan_evaluation.judges.pairs import judge_pairs
from capstan_evaluation.judges.prompts import ask_pairwise
from capstan_evaluation.records import Answer
from capstan_evaluation.runs.client import BadUrl, Connection, Model, Server, open_session, read_url
from capstan_evaluation.runs.progress import Progress
from capstan_evaluation.suites.load import load_suite
from capstan_evaluation.suites.suite import DEFAULT_KAPPA, Rubric
from capstan_operator.cli.eval_judge_report import as_text, as_trivial

KEY: Final = "CAPSTAN_API_KEY"
MOST_BYTES: Final = 256 * 1024 * 1024
MOST_CONCURRENCY: Final = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    what = (
        "labelled pairs: .json, .jsonl or .csv with input, output_1, output_2, and label: 1, 2, or 0 for no difference"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=what)
    parser.add_argument("--judge", metavar="MODEL", help="the judge; without one only 'longer wins' is told")
    parser.add_argument("--url", help="base URL of the gateway, or of any server of the OpenAI API, that has the judge")
    parser.add_argument("--key-file", type=Path, help=f"file with the API key (or the variable {KEY})")
    parser.add_argument("--suite", type=Path, help="suite whose rubric and minimumKappa count")
    parser.add_argument("--criterion", default="", help="better in what (default: as an answer to what was asked)")
    parser.add_argument("--minimum-kappa", type=float, help="from which it may gate (default: of --suite, or 0.6)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pairs of each file")
    parser.add_argument("--concurrency", type=int, default=8, help="pairs at once (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the check, for `eval run --judge-check`")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "Each pair is two requests. Exit codes: 0 the judge may gate, 1 it may not, 2 usage, 4 it failed."


class _Chat:
    """A model as judges ask it: nothing of a check is kept, and its spend is bounded by its pairs."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:  # noqa: ARG002
        """See `Chat`."""
        return await self._model.chat(document)


class Misused(EvaluationError):
    """A wrong command line; the message says why."""


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print the outcome; 1 when the judge may not gate, 2 when it cannot be asked, 4 when it fails."""
    try:
        files = [(path.name, _pairs(path, arguments.limit)) for path in arguments.files]
        if arguments.judge is None:
            print(_trivial(files, as_json=arguments.json))
            return 0
        rubric, minimum = _rubric(arguments)
        server = _server(arguments)
        check = asyncio.run(_check(arguments, files, server, rubric, minimum))
        print(check.model_dump_json(indent=2) if arguments.json else as_text(check))
        if arguments.output is not None:
            arguments.output.write_text(f"{check.model_dump_json(indent=2)}\n")
    except NotAnswered as error:
        print(f"error: the judge {arguments.judge} failed: {error}", file=sys.stderr)
        return 4
    except (EvaluationError, BadUrl, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if check.mayGate else 1


def _trivial(files: Sequence[tuple[str, list[Pair]]], *, as_json: bool) -> str:
    """Tell how the judge that prefers the longer answer does."""
    told = [(name, len(pairs), trivial(pairs)) for name, pairs in files]
    if not as_json:
        return as_trivial(told)
    rows = [{"file": name, "pairs": count, "longerWins": one.model_dump(mode="json")} for name, count, one in told]
    return json.dumps({"files": rows}, indent=2)


def _pairs(path: Path, limit: int | None) -> list[Pair]:
    if limit is not None and limit < 1:
        raise Misused("--limit must be at least 1")
    if path.stat().st_size > MOST_BYTES:
        raise LabelsInvalid(f"{path}: has more than {MOST_BYTES} bytes")
    try:
        return read_pairs(path.read_text(encoding="utf-8"), str(path))[:limit]
    except UnicodeDecodeError:
        raise LabelsInvalid(f"{path}: is not written in UTF-8") from None


def _rubric(arguments: argparse.Namespace) -> tuple[Rubric, float]:
    rubric, minimum = Rubric(), DEFAULT_KAPPA
    if arguments.suite is not None:
        suite = load_suite(arguments.suite)
        rubric, minimum = suite.rubric, suite.minimumKappa
    if arguments.minimum_kappa is not None:
        minimum = arguments.minimum_kappa
    if not 0 <= minimum <= 1:
        raise Misused("--minimum-kappa must be from 0 to 1")
    if not 1 <= arguments.concurrency <= MOST_CONCURRENCY:
        raise Misused(f"--concurrency must be from 1 to {MOST_CONCURRENCY}")
    return rubric, minimum


def _server(arguments: argparse.Namespace) -> Server:
    if arguments.url is None:
        raise Misused("--judge needs --url: where it is asked")
    file: Path | None = arguments.key_file
    key = (os.environ.get(KEY, "") if file is None else file.read_text(errors="replace")).strip()
    if not key.isprintable() or not key.isascii():
        raise Misused(f"no API key in {file or KEY}")
    return Server(read_url(arguments.url), key)


async def _check(
    arguments: argparse.Namespace,
    files: Sequence[tuple[str, list[Pair]]],
    server: Server,
    rubric: Rubric,
    minimum: float,
) -> JudgeCheck:
    progress = Progress(
        sys.stderr,
        sum(len(pairs) for _, pairs in files),
        0,
        now=time.monotonic,
        width=lambda: shutil.get_terminal_size().columns,
    )
    async with open_session(arguments.concurrency) as session:
        connection = Connection(session, concurrency=arguments.concurrency)
        judge = Judge(_Chat(Model(connection, server, arguments.judge)), arguments.judge, rubric)
        judged: list[tuple[str, list[Judged]]] = []
        try:
            for name, pairs in files:
                rows = await judge_pairs(
                    judge,
                    pairs,
                    criterion=arguments.criterion,
                    concurrency=arguments.concurrency,
                    on_pair=lambda one: progress.result(failed=one.failed),
                )
                judged.append((name, rows))
        finally:
            progress.close()
    return check_judge(
        judged,
        model=arguments.judge,
        prompt_hash=ask_pairwise("", "", "", criterion=arguments.criterion, rubric=rubric).template,
        rubric=rubric.version,
        criterion=arguments.criterion,
        minimum_kappa=minimum,
    )
