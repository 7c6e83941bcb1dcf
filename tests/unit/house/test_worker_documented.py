"""docs/worker.md and docs/simulator.md have the flags that the worker takes."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest

from capstan_process.settings import required, setting
from capstan_worker.queue.settings import QueueSettings
from capstan_worker.scoring.settings import ScoreSettings
from capstan_worker.settings import SidecarSettings, VllmSettings, WorkerSettings
from capstan_worker.simulator.settings import Dials, SimulatorSettings
from support.needs import ROOT

WORKER = (ROOT / "docs" / "worker.md").read_text()
SIMULATOR = (ROOT / "docs" / "simulator.md").read_text()


def flags(*classes: Any) -> set[str]:
    """Give the flags of these settings."""
    known = [(field, field.metadata.get("capstan.setting")) for one in classes for field in dataclasses.fields(one)]
    return {f"--{about.flag or field.name.replace('_', '-')}" for field, about in known if about is not None}


def documented(page: str, title: str) -> list[str]:
    """Give the flags in the first column of the tables under a heading."""
    section = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return list(_flags_in(line.split(" | ", 1)[0] for line in section.splitlines() if line.startswith("| `--")))


def _flags_in(cells: Iterator[str]) -> Iterator[str]:
    for cell in cells:
        yield from re.findall(r"--[a-z][a-z-]+", cell)


@pytest.mark.parametrize(
    ("page", "title", "classes"),
    [
        (WORKER, "Flags of every command", (WorkerSettings,)),
        (WORKER, "The queue", (QueueSettings,)),
        (WORKER, "score", (ScoreSettings,)),
        (SIMULATOR, "Flags", (SimulatorSettings, Dials)),
    ],
    ids=["worker", "queue", "score", "simulator"],
)
def test_every_flag(page: str, title: str, classes: tuple[Any, ...]) -> None:
    """A table of flags has each of them once, and no other."""
    assert sorted(documented(page, title)) == sorted(flags(*classes))


def test_the_flags_of_engines() -> None:
    """What `vllm` and `sidecar` take besides stands where they are explained."""
    for title, settings in (("vllm", VllmSettings), ("sidecar", SidecarSettings)):
        section = WORKER.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
        assert flags(settings) - set(_flags_in(iter([section]))) == set()


def test_a_flag_that_is_not_documented_is_found() -> None:
    """What a field says of its flag counts, and a field without a setting has none."""

    @dataclasses.dataclass
    class Some:
        other: str = required("a text", flag="what-else")
        long_name: int = setting(1, "a number")
        plain: int = 0

    assert flags(Some) == {"--long-name", "--what-else"}
