"""In which order the tests begin, and which of them stay in one process. Plain functions of a test's node id."""

from typing import Final

MACHINE: Final = "machine"
VLLM: Final = "tests/integration/worker/test_vllm_"
ORDER: Final = (
    MACHINE,
    "tests/integration/",
    "tests/contract/",
    "tests/clients/",
    "tests/agents/",
    "tests/golden/",
    "tests/property/",
    "tests/unit/",
)
"""What takes longest begins first, and what needs a program that `.ci/run` still makes (support/jobs.py) when there was
time for that. Many short files come last, so that all processes come to their end together."""


def scope_of(nodeid: str) -> str:
    """Say which tests stay in one process: those of a file, all on the cluster, and all with real vLLM, so that no more
    than one of its tests has the machine busy at a time."""
    path = nodeid.split("::", 1)[0]
    if path.startswith("tests/e2e/"):
        return MACHINE
    return VLLM if path.startswith(VLLM) else path


def rank_of(nodeid: str) -> int:
    """Say when a test begins: those with a lower rank first. What is in no known folder comes last."""
    scope = scope_of(nodeid)
    return next((rank for rank, start in enumerate(ORDER) if scope.startswith(start)), len(ORDER))
