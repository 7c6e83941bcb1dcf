"""`capstan experiment report`: what is said of members, and how often it is wrong to say it."""

import asyncio
import json
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from capstan_contract.tracks import Arm, Counters, Experiment, ExperimentsReport, Quantity
from capstan_gateway.arms.tally import Tally
from capstan_operator.cli import experiment
from capstan_operator.cli.admin_source import Refused, Told
from capstan_operator.cli.experiment_report import METRICS, as_json, needed_for, report_on, written
from capstan_operator.cli.experiment_scores import through
from capstan_operator.cli.main import main

USERS = 400
LOOKS = 20
EACH_LOOK = 100


class World:
    """Users who ask, each kept with one of two members, and each with a speed and a temper of their own."""

    def __init__(self, seed: int, *, worse: float = 0.0, slower: float = 1.0) -> None:
        self.random = Random(seed)  # noqa: S311 - a simulation
        self.worse, self.slower = worse, slower
        self.tallies = Tally(), Tally()
        self.users = [
            (self.random.randrange(128), self.random.randrange(2), self.random.lognormvariate(0, 0.5),
             self.random.betavariate(2, 30))
            for _ in range(USERS)
        ]  # fmt: skip

    def ask(self, requests: int) -> None:
        """Have some of them ask, a few more often than others."""
        for _ in range(requests):
            place = min(int(self.random.expovariate(1 / 120)), USERS - 1)
            bucket, arm, speed, temper = self.users[place]
            failed = self.random.random() < temper + (self.worse if arm else 0.0)
            add = self.tallies[arm].add
            add(Quantity.ERROR, bucket, int(failed))
            if not failed:
                seconds = speed * self.random.lognormvariate(0, 0.3) * (self.slower if arm else 1.0)
                add(Quantity.LATENCY, bucket, int(seconds * 1_000_000))

    def experiment(self, **fields: Any) -> Experiment:
        """Give what was counted so far."""
        arms = tuple(
            Arm(member=f"n/{name}", weight=1, counters=tally.counters())
            for name, tally in zip("ab", self.tallies, strict=True)
        )
        return Experiment(router="n/r", name="r", epoch="e", arms=arms, **fields)


def _alarms(world: World, quantity: Quantity | None = None) -> bool:
    """Look again and again; say whether a difference was ever told."""
    for _ in range(LOOKS):
        world.ask(EACH_LOOK)
        told = [one for one in report_on(world.experiment()).differences if one.is_told]
        if any(quantity is None or one.metric.quantity is quantity for one in told):
            return True
    return False


def test_two_that_are_alike_are_seldom_told_apart_however_often_one_looks() -> None:
    """A/A: of experiments whose members are the same one in twenty at most is called different at any of its looks,
    although the requests of a user are alike, and few users ask the most."""
    alarms = sum(_alarms(World(seed)) for seed in range(60))
    assert alarms <= 3


def test_a_planted_difference_is_found() -> None:
    """A member that is twice as slow, and one that fails ten times as often, are told from the other one."""
    assert all(_alarms(World(seed, slower=2.0), Quantity.LATENCY) for seed in range(10))
    assert all(_alarms(World(seed, worse=0.5), Quantity.ERROR) for seed in range(10))


def test_what_is_found_is_said_in_plain_words() -> None:
    """A difference is called better or worse, and none is called none, with what it would take to see it."""
    world = World(1, slower=3.0)
    world.ask(3000)
    text = written(report_on(world.experiment(stickyBy="User")), replicas=2)
    assert "r (n/r), sticky by User: 3,000 requests at 2 gateway replicas" in text
    latency = next(line for line in text.splitlines() if "  latency: " in line)
    assert latency.endswith(": higher, which is worse")
    error = next(line for line in text.splitlines() if "  error rate: " in line)
    assert "no difference seen yet" in error
    assert "warning" not in text


def test_nothing_is_said_of_nothing() -> None:
    """Without a request there is no difference, and no division by it."""
    empty = Experiment(router="n/r", arms=(Arm(member="n/a", weight=1), Arm(member="n/b", weight=1)))
    report = report_on(empty)
    assert report.differences == ()
    assert "no difference seen yet" in written(report, replicas=1)
    world = World(1)
    world.ask(20)
    assert "too little was seen" in written(report_on(world.experiment()), replicas=1)


def test_a_router_that_mixes_users_is_warned_of() -> None:
    """Without stickiness, after a change of weights, and where shares are not the weights, that is said."""
    world = World(1)
    world.ask(2000)
    experiment_ = world.experiment(stickyBy="None", current=False)
    skewed = experiment_.model_copy(
        update={"arms": (experiment_.arms[0].model_copy(update={"weight": 9}), experiment_.arms[1])}
    )
    warnings = " ".join(report_on(skewed).warnings)
    assert "not sticky" in warnings
    assert "from before" in warnings
    assert "its weight is" in warnings


def test_all_that_is_compared_shares_one_alpha() -> None:
    """With more members each interval is wider: together they are wrong no more often."""
    world = World(1)
    world.ask(3000)
    two = world.experiment()
    third = two.model_copy(update={"arms": (*two.arms, two.arms[1].model_copy(update={"member": "n/c"}))})
    narrow, wide = report_on(two).differences[0], report_on(third).differences[0]
    assert wide.interval.width > narrow.interval.width
    assert len(METRICS) == 6


def test_another_control_turns_the_difference_round() -> None:
    """What is higher than the first is lower beside the other; who is no member is named."""
    world = World(1, slower=3.0)
    world.ask(2000)
    one, other = report_on(world.experiment()), report_on(world.experiment(), control="n/b")
    assert [round(a.seen + b.seen, 9) for a, b in zip(one.differences, other.differences, strict=True)] == [0.0, 0.0]
    with pytest.raises(ValueError, match="n/x"):
        report_on(world.experiment(), control="n/x")


def test_more_is_needed_for_less() -> None:
    """The smaller a difference the more requests it takes to see it, and none is for ever out of reach."""
    world = World(1)
    world.ask(2000)
    (error, latency) = report_on(world.experiment()).differences
    small, large = (needed_for(seen, error.interval, 1000, alpha=0.01) for seen in (0.01, 0.05))
    assert small is not None
    assert large is not None
    assert small > large >= 1000
    assert needed_for(0.0, latency.interval, 1000, alpha=0.01) is None
    assert needed_for(1e-9, latency.interval, 1000, alpha=0.01) is None


def test_json_has_numbers_for_programs() -> None:
    """Seconds, shares and null where nothing is known; never an infinite number."""
    world = World(1)
    world.ask(20)
    said = json.loads(json.dumps(as_json(report_on(world.experiment()), replicas=["x"], silent=["y"]), allow_nan=False))
    assert said["members"][0]["feedbackMillis"] == {"count": 0, "mean": None}
    assert 0 < said["members"][0]["latencyMicros"]["p95"] < 100
    assert said["differences"][1]["low"] is None
    assert (said["replicas"], said["silentReplicas"]) == (["x"], ["y"])


def _answers(monkeypatch: pytest.MonkeyPatch, *told: Told) -> None:
    monkeypatch.setattr(experiment, "fetch_each", lambda *_: list(told))


def _page(world: World) -> bytes:
    return ExperimentsReport(boot="b", experiments=(world.experiment(),)).model_dump_json().encode()


def test_all_replicas_are_added_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What two replicas have counted is one sum, what is shared counts once, and one that is silent is named."""
    world = World(1)
    world.ask(100)
    said = Counters(measures={Quantity.FEEDBACK: world.experiment().arms[0].counters.of(Quantity.ERROR)})
    whole = world.experiment()
    whole = whole.model_copy(
        update={"arms": (whole.arms[0].model_copy(update={"shared": said}), whole.arms[1])}
    )  # fmt: skip
    page = ExperimentsReport(boot="b", experiments=(whole,)).model_dump_json().encode()
    _answers(monkeypatch, Told("x", page), Told("y", page), Told("z", silence="it is away"))
    assert main(["experiment", "report", "r", "--json", "--url", "http://127.0.0.1:1"]) == 0
    out, err = capsys.readouterr()
    members = json.loads(out)["members"]
    assert sum(member["requests"] for member in members) == 200
    assert members[0]["feedbackMillis"]["count"] == said.of(Quantity.FEEDBACK).count
    assert "z" in err


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told("x", b"<html>"), "JSON"),
        (Told("x", silence="it is away"), "it is away"),
        (Told("x", refused=Refused(401, b"{}", "no key")), "admin key"),
        (Told("x", ExperimentsReport(boot="b").model_dump_json().encode()), "strategy: Weighted"),
    ],
)
def test_where_there_is_no_report_it_is_said_why(
    told: Told, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another router's name, another server, no key: one line, and exit code 1."""
    _answers(monkeypatch, told)
    assert main(["experiment", "report", "r", "--url", "http://127.0.0.1:1"]) == 1
    assert words in capsys.readouterr().err


def test_the_current_experiment_is_reported() -> None:
    """Of a router with new weights the new counts are meant; two routers of one name are told apart by their ids."""
    world = World(1)
    now, before = world.experiment(), world.experiment(current=False).model_copy(update={"epoch": "old"})
    assert experiment.find([before, now], "r") == now
    assert experiment.find([before, now], "n/r") == now
    other = now.model_copy(update={"router": "m/r"})
    with pytest.raises(ValueError, match="several"):
        experiment.find([now, other], "r")


def _scores(path: Path) -> str:
    def one(criterion: str, low: float, mean: float, high: float) -> dict[str, Any]:
        return {"criterion": criterion, "rubric": "1", "count": 1412, "mean": mean, "low": low, "high": high}

    models = {
        "n/a": [one("polite", 0.8, 0.85, 0.9), one("right", 0.8, 0.85, 0.9)],
        "n/b": [one("polite", 0.4, 0.5, 0.6), one("right", 0.7, 0.8, 0.9)],
    }
    path.write_text(json.dumps({"version": 1, "models": models}))
    return str(path)


def test_what_the_scorer_says_is_shown_as_of_whole_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mean, interval and count of each criterion, and of two no more than whether their intervals overlap."""
    world = World(1)
    world.ask(100)
    _answers(monkeypatch, Told("x", _page(world)))
    asked = ["experiment", "report", "r", "--url", "http://127.0.0.1:1", "--scores", _scores(tmp_path / "scores")]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "not of this experiment's requests alone" in out
    assert "n/b  polite: 0.500 (0.400 to 0.600) of 1,412; the interval does not overlap with that of n/a" in out
    assert "n/b  right: 0.800 (0.700 to 0.900) of 1,412; the interval overlaps with that of n/a" in out
    assert main([*asked, "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)["judged"]
    assert judged["why"] is None
    assert [(one["criterion"], one["low"]) for one in judged["members"]["n/b"]] == [("polite", 0.4), ("right", 0.7)]


@pytest.mark.parametrize(("page", "words"), [(None, "--scores FILE or URL"), ("<html>", "must be JSON")])
def test_without_scores_it_is_said_why(
    page: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No scorer, or a page that is none: there is a report all the same, with one line that says why."""
    _answers(monkeypatch, Told("x", _page(World(1))))
    (tmp_path / "scores").write_text(page or "")
    extra = [] if page is None else ["--scores", str(tmp_path / "scores")]
    assert main(["experiment", "report", "r", "--url", "http://127.0.0.1:1", *extra]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("judged:")]
    assert words in line


def test_the_scorer_of_a_cluster_is_asked_without_the_admin_key() -> None:
    """It is found by its Service's label; where there is none, that is said."""
    asked: list[Any] = []

    class Kube:
        names: tuple[str, ...] = ("capstan-scorer",)

        async def list(self, _resource: Any, *, namespace: str, label_selector: str) -> Any:
            asked.append((namespace, label_selector))
            return SimpleNamespace(items=[{"metadata": {"name": name}} for name in self.names])

        async def ask_through(self, of: str, path: str, **fields: Any) -> tuple[int, bytes]:
            asked.append((of, path, fields["headers"]))
            return 200, b"{}"

    kube = Kube()
    assert asyncio.run(through(kube, "system")) == b"{}"
    assert asked == [
        ("system", "app.kubernetes.io/component=scorer"),
        ("services/capstan-scorer:metrics", "/internal/scores", {}),
    ]
    kube.names = ()
    with pytest.raises(ValueError, match="no scorer"):
        asyncio.run(through(kube, "system"))
