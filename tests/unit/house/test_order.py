"""The order in which tests begin."""

from support.needs import ROOT
from support.order import MACHINE, ORDER, VLLM, rank_of, scope_of


def test_those_on_the_cluster_stay_together_and_others_by_file() -> None:
    """All on the cluster are one scope, all with real vLLM are another, and of all others each file is one."""
    assert scope_of("tests/e2e/test_gpus.py::test_a") == scope_of("tests/e2e/test_limits.py::test_b[x::y]") == MACHINE
    assert scope_of("tests/integration/worker/test_vllm_gateway.py::test_a") == VLLM
    assert scope_of("tests/unit/loop/test_a.py::test_b[x::y]") == "tests/unit/loop/test_a.py"


def test_the_longest_begin_first_and_the_shortest_last() -> None:
    """The cluster's tests come before those with processes of their own, and units behind all that wait for a job."""
    ids = ("unit/a", "agents/a", "contract/a", "property/a", "e2e/a", "clients/a", "integration/a", "golden/a")
    ordered = sorted((f"tests/{name}.py::test" for name in ids), key=rank_of)
    assert [scope_of(one).split("/")[1:2] for one in ordered] == [
        [], ["integration"], ["contract"], ["clients"], ["agents"], ["golden"], ["property"], ["unit"],
    ]  # fmt: skip


def test_every_folder_with_tests_has_its_place() -> None:
    """A layer that nobody has given a place would begin when all others are over."""
    tests = ROOT / "tests"
    found = {path.relative_to(tests).parts[0] for path in (*tests.glob("*/test_*.py"), *tests.glob("*/*/test_*.py"))}
    assert "unit" in found
    assert [name for name in found if rank_of(f"tests/{name}/test_a.py::test") == len(ORDER)] == []
