"""`capstan validate`: what it prints, and its exit code."""

import base64
from pathlib import Path

import pytest

from capstan_operator.cli.main import main

MODEL = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: NAME}
spec:
  model: {source: "hf://org/name"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is also where the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(name: str, rest: str = "") -> str:
    """A manifest."""
    return MODEL.replace("NAME", name) + rest


def test_sound_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing wrong: one line, exit code 0."""
    (folder / "a.yaml").write_text(model("a"))
    (folder / "b.yaml").write_text(model("b"))
    assert main(["validate", "."]) == 0
    assert capsys.readouterr() == ("2 models, 0 errors, 0 warnings\n", "")


def test_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every error is a line on stderr with file, line, document, resource and field; exit code 1."""
    (folder / "a.yaml").write_text(model("a", "  replicas: many\n") + "---\n" + model("b", "  gpus: 1\n"))
    assert main(["validate", "a.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out == "2 models, 2 errors, 0 warnings\n"
    assert err.splitlines()[0] == (
        "a.yaml:6: document 1: LLMModel default/a: `spec.replicas`: must be a whole number without quotes"
    )
    assert err.splitlines()[1].startswith("a.yaml:13: document 2: LLMModel default/b: `spec.gpus`: is not a field; ")


def test_name_conflicts_between_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two models that claim one name: the later one is an error, at its names."""
    (folder / "a.yaml").write_text(model("a"))
    (folder / "b.yaml").write_text(model("b").replace('name"', 'name", servedName: a'))
    assert main(["validate", "-q", "."]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(
        "b.yaml:5: document 1: LLMModel default/b: `spec.model`: the name 'a' belongs to the LLMModel "
    )


def test_what_an_engine_cannot_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults that no schema shows are found too."""
    text = model("a", "  engine: {type: TGI}\n").replace("hf://org", "s3://bucket")
    (folder / "a.yaml").write_text(text)
    assert main(["validate", "."]) == 1
    assert "a.yaml:5: document 1: LLMModel default/a: `spec.model.source`: must be hf://" in capsys.readouterr().err


def test_unknown_fallback_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fallback that no manifest has may be in the cluster: a warning, exit code 0."""
    (folder / "a.yaml").write_text(model("a", "  serving:\n    fallbacks: [b, c]\n"))
    (folder / "b.yaml").write_text(model("b"))
    assert main(["validate", "-q", "."]) == 0
    assert capsys.readouterr().out == (
        "a.yaml:7: warning: document 1: LLMModel default/a: `spec.serving.fallbacks[1]`:"
        " names the model 'c', which is in none of these manifests\n"
    )


def test_foreign_objects_are_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects of other kinds are passed over, and said so unless quiet."""
    (folder / "a.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
    assert main(["validate", "."]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a.yaml:1: notice: document 1: Secret default/s: is not a resource of Capstan; passed over",
        "0 models, 0 errors, 0 warnings",
    ]


def test_missing_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is not there is an error, not a success over nothing."""
    assert main(["validate", "missing"]) == 1
    assert capsys.readouterr().err == "missing: does not exist\n"


def test_examples_are_sound(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything in examples/ is valid, together."""
    assert main(["validate", str(Path(__file__).parents[3] / "examples")]) == 0
    assert capsys.readouterr().err == ""


ROUTER = """\
apiVersion: capstan.dev/v1alpha1
kind: LLMModel
metadata: {name: r}
spec:
  router:
    members:
    - {name: a}
    - {name: b}
"""


def test_unknown_member_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A member that no manifest has may be in the cluster, also when that is so of all members."""
    (folder / "r.yaml").write_text(ROUTER)
    assert main(["validate", "-q", "."]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"r.yaml:{line}: warning: document 1: LLMModel default/r: `spec.router.members[{index}].name`:"
        f" names the LLMModel '{name}', which is in none of these manifests"
        for line, index, name in ((7, 0, "a"), (8, 1, "b"))
    ]


def test_member_that_cannot_be_one_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A member that is there and cannot answer is an error, at the field that names it."""
    (folder / "a.yaml").write_text(model("a"))
    (folder / "b.yaml").write_text(ROUTER.replace("{name: b}", "{name: c}").replace("{name: r}", "{name: b}"))
    (folder / "r.yaml").write_text(ROUTER)
    assert main(["validate", "-q", "."]) == 1
    assert capsys.readouterr().err == (
        "r.yaml:8: document 1: LLMModel default/r: `spec.router.members[1].name`:"
        " names the LLMModel 'b', which is a router itself\n"
    )


def test_names_that_nobody_gets(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`auto` as a served name or an alias is an error here, before a cluster drops it."""
    (folder / "a.yaml").write_text(model("auto"))
    (folder / "b.yaml").write_text(model("b").replace("source:", "aliases: [auto], source:"))
    assert main(["validate", "-q", "."]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == ["a.yaml", "b.yaml"]
    assert all("the name 'auto' is reserved" in line for line in told)


def test_names_are_checked_against_the_settings(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the operator's setting of allowed names, what it would not allow is an error; a wrong setting is said."""
    (folder / "a.yaml").write_text(model("a"))
    monkeypatch.setenv("CAPSTAN_ALLOWED_NAMES", '{"default": ["team-*"]}')
    assert main(["validate", "-q", "."]) == 1
    assert "the name 'a' is not allowed in the namespace 'default' (allowed: 'team-*')" in capsys.readouterr().err
    monkeypatch.setenv("CAPSTAN_ALLOWED_NAMES", "a")
    assert main(["validate", "-q", "."]) == 1
    told = capsys.readouterr().err
    assert told == "error: CAPSTAN_ALLOWED_NAMES must be JSON: lists of patterns by namespace, not 'a'\n"


def test_a_fallback_to_another_namespace_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster leaves it out unless it is set up otherwise."""
    (folder / "a.yaml").write_text(model("a", "  serving:\n    fallbacks: [b]\n"))
    (folder / "b.yaml").write_text(model("b").replace("name: b", "name: b, namespace: other"))
    assert main(["validate", "-q", "."]) == 0
    assert "names the model 'b', which is of another namespace; it is left out" in capsys.readouterr().out


@pytest.mark.parametrize("several", ["  replicas: 3\n", "  scaling: {min: 1, max: 3}\n"])
def test_several_replicas_on_a_claim_of_one_node(
    several: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replicas that could not all attach their claim are an error; a claim that they can share is none."""
    (folder / "a.yaml").write_text(model("a", several + "  cache: {size: 1Gi}\n"))
    assert main(["validate", "."]) == 1
    assert "`spec.cache.accessMode`: must be ReadWriteMany when" in capsys.readouterr().err
    (folder / "a.yaml").write_text(model("a", several + "  cache: {size: 1Gi, accessMode: ReadWriteMany}\n"))
    assert main(["validate", "."]) == 0
    (folder / "a.yaml").write_text(model("a", "  cache: {size: 1Gi}\n"))
    assert main(["validate", "."]) == 0


def test_replicas_beside_scaling(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`replicas` beside `scaling` is a warning, unless somebody else scales; 1 is as if it were not there."""
    for scaling, replicas, warned in (
        ("max: 3", 7, True),
        ("max: 3", 1, False),
        ("max: 3, strategy: External", 7, False),
    ):
        (folder / "a.yaml").write_text(model("a", f"  replicas: {replicas}\n  scaling: {{{scaling}}}\n"))
        assert main(["validate", "-q", "."]) == 0
        assert ("`spec.replicas`: has no effect beside `scaling`" in "".join(capsys.readouterr())) == warned


def test_what_breaks_the_wiring(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that Capstan would contradict is an error at its line; one that repeats it is a warning."""
    args = "  engine:\n    args:\n      - --host=0.0.0.0\n      - --served-model-name=x\n"
    (folder / "a.yaml").write_text(model("a", args))
    assert main(["validate", "."]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("a.yaml:9: document 1: LLMModel default/a: `spec.engine.args[1]`: must not set --served-")
    assert out.startswith("a.yaml:8: warning: document 1: LLMModel default/a: `spec.engine.args[0]`: says what Capstan")


POLICY = """\
apiVersion: capstan.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: NAME}
spec:
  limits: [{name: a, per: Tenant, requests: 5}]
"""


def policy(name: str, rest: str) -> str:
    """A manifest of a policy."""
    return POLICY.replace("NAME", name) + rest


def test_policies_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sound policy is counted beside the models."""
    (folder / "a.yaml").write_text(model("a") + "---\n" + policy("p", "  targetRefs: [{name: a}]\n"))
    assert main(["validate", "."]) == 0
    assert capsys.readouterr() == ("1 model, 1 policy, 0 errors, 0 warnings\n", "")


def test_a_policy_for_all_has_to_be_of_the_install_namespace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A policy that names nobody is an error, unless it is of the namespace that Capstan is installed in."""
    (folder / "a.yaml").write_text(policy("p", ""))
    assert main(["validate", "a.yaml"]) == 1
    assert "must have `targetRefs` or `targetSelector`" in capsys.readouterr().err
    assert main(["validate", "-n", "capstan-system", "a.yaml"]) == 0


def test_a_policy_that_loses_everywhere_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two policies for one model the second one is told who wins; one that loses on some models is warned."""
    (folder / "a.yaml").write_text(model("a") + "---\n" + model("b"))
    (folder / "p.yaml").write_text(policy("p", "  targetRefs: [{name: a}]\n"))
    (folder / "q.yaml").write_text(policy("q", "  targetRefs: [{name: a}]\n"))
    assert main(["validate", "."]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("q.yaml:")
    assert "where the RateLimitPolicy 'default/p' is in force" in line
    (folder / "q.yaml").write_text(policy("q", "  targetRefs: [{name: a}, {name: b}]\n"))
    assert main(["validate", "."]) == 0
    out = capsys.readouterr().out
    assert "is not in force on the LLMModel 'a': RateLimitPolicy/default/p is" in out


def test_a_policy_for_models_of_elsewhere_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a policy names, and no manifest has, may well be in the cluster."""
    budget = '  budgets: [{name: b, per: Team, dollars: "1", period: day, onExhausted: Downgrade, downgradeTo: z}]\n'
    (folder / "p.yaml").write_text(policy("p", "  targetRefs: [{name: a}]\n" + budget))
    assert main(["validate", "."]) == 0
    out = capsys.readouterr().out
    assert "`spec.targetRefs[0].name`: names the LLMModel 'a', which is in none of these manifests" in out
    assert "`spec.budgets[0].downgradeTo`: names the LLMModel 'z', which is in none of these manifests" in out


def test_a_downgrade_to_the_model_itself_is_a_warning(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A budget cannot go down to the only model that it is for."""
    budget = '  budgets: [{name: b, per: Team, dollars: "1", period: day, onExhausted: Downgrade, downgradeTo: a}]\n'
    (folder / "a.yaml").write_text(model("a"))
    (folder / "p.yaml").write_text(policy("p", "  targetRefs: [{name: a}]\n" + budget))
    assert main(["validate", "."]) == 0
    assert "`spec.budgets[0].downgradeTo`: is the only LLMModel that the policy is for" in capsys.readouterr().out


def test_a_time_zone_that_there_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A time zone is looked up before a cluster gets it."""
    budget = '  budgets: [{name: b, per: Team, dollars: "1", period: day, resetTimeZone: Europe/Atlantis}]\n'
    (folder / "a.yaml").write_text(model("a") + "---\n" + policy("p", "  targetSelector: {}\n" + budget))
    assert main(["validate", "."]) == 1
    assert "`spec.budgets[0].resetTimeZone`: must be the name of a time zone" in capsys.readouterr().err


def test_models_that_a_cache_cannot_ask_are_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge that is in no manifest, or that can be none, is told; a second cache loses."""
    limits = "  limits: [{name: a, per: Tenant, requests: 5}]\n"
    cache = policy("p", "  targetRefs: [{name: a}]\n").replace("RateLimitPolicy", "CachePolicy").replace(limits, "")
    semantic = "  semantic: {enabled: true, judgeRef: {name: JUDGE}}\n"
    (folder / "a.yaml").write_text(model("a") + "---\n" + model("e").rstrip("}\n") + ", task: embed}\n")
    said = {"e": "of the task embed, not chat", "z": "in none of these manifests"}
    for judge, why in said.items():
        (folder / "p.yaml").write_text(cache + semantic.replace("JUDGE", judge))
        assert main(["validate", "."]) == 0
        line = f"`spec.semantic.judgeRef.name`: names the LLMModel '{judge}', which is {why}"
        assert line in capsys.readouterr().out
    (folder / "q.yaml").write_text(cache.replace("name: p", "name: q"))
    assert main(["validate", "."]) == 1
    assert "where the CachePolicy 'default/p' is in force" in capsys.readouterr().err


ROLLED = """\
  rollout:
    steps: [{weight: 5}]
    gate:
      suites: [{configMap: answers}, {configMap: elsewhere}]
      safety: [{configMap: answers}, {configMap: answers, key: other.yaml}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: answers}
data:
  other.yaml: |
    name: other
    cases: [{id: x, prompt: hi, checks: [{type: Contains, all: [a]}]}]
  suite.yaml: |
    name: answers
    cases:
    - id: capital
      prompt: What is it?
      checks: [{type: CHECK, all: [Paris]}]
"""


def test_a_suite_of_a_rollout_that_does_not_parse(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is an error with its file and case, once, at its ConfigMap; one that no manifest has is none."""
    (folder / "a.yaml").write_text(model("a", ROLLED.replace("CHECK", "Contians")))
    assert main(["validate", "."]) == 1
    out, err = capsys.readouterr()
    assert out == "1 model, 1 error, 0 warnings\n"
    (line,) = err.splitlines()
    assert line.startswith("a.yaml:15: document 2: ConfigMap default/answers: `data`: suite.yaml:5: case capital: ")


def test_a_suite_of_a_rollout_that_parses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is said of it, and not that nobody looks at its ConfigMap; of one in another namespace that is said."""
    (folder / "a.yaml").write_text(model("a", ROLLED.replace("CHECK", "Contains")))
    assert main(["validate", "."]) == 0
    assert capsys.readouterr() == ("1 model, 0 errors, 0 warnings\n", "")
    (folder / "a.yaml").write_text(
        model("a", ROLLED.replace("CHECK", "Contians").replace("{name: answers}", "{name: answers, namespace: b}"))
    )
    assert main(["validate", "."]) == 0
    assert "ConfigMap b/answers: is not a resource of Capstan" in capsys.readouterr().out


def test_files_of_a_suite_are_those_of_a_pod(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that is missing is an error; data in base64 is read as well."""
    text = model("a", ROLLED.replace("CHECK", "Contains"))
    (folder / "a.yaml").write_text(text.replace("key: other.yaml", "key: absent.yaml"))
    assert main(["validate", "-q", "."]) == 1
    assert "`data`: absent.yaml: is missing in the ConfigMap" in capsys.readouterr().err
    encoded = base64.b64encode(b"name: other\ncases: []\n").decode()
    (folder / "a.yaml").write_text(
        text.replace("key: other.yaml", "key: b.yaml") + f"binaryData: {{b.yaml: {encoded}}}\n"
    )
    assert main(["validate", "-q", "."]) == 1
    assert "`data`: b.yaml" in (err := capsys.readouterr().err)
    assert "is missing in the ConfigMap" not in err


def test_without_the_extra_no_suite_is_looked_at(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifests can be validated where the packages of evaluation are not installed: their suites are passed over."""
    monkeypatch.setattr("capstan_operator.cli.gate_suites.NEEDED", ("no_such_package",))
    (folder / "a.yaml").write_text(model("a", ROLLED.replace("CHECK", "Contians")))
    assert main(["validate", "."]) == 0
    assert "ConfigMap default/answers: is not a resource of Capstan; passed over" in capsys.readouterr().out
