"""What all pods of the chart share: each component's values say it, and the same ones of each."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.helm import CHART, NAMESPACE, one, render, run_helm, try_render
from support.switches import KINDS, POD_SWITCHES, SPREAD, has, place
from support.yamls import load_all

ON: dict[str, Any] = {"scorer": {"enabled": True, "replicas": 2}, "redis": {"enabled": True}}
"""All four components."""


def workload(component: str, values: dict[str, Any]) -> dict[str, Any]:
    """Give a component's workload, rendered with some values of its own."""
    return one(_rendered(json.dumps({component: values})), KINDS[component], f"capstan-{component}")


@functools.cache
def _rendered(values: str) -> list[dict[str, Any]]:
    given = json.loads(values)
    return render({"crds": {"enabled": False}, **{name: {**ON.get(name, {}), **given.get(name, {})} for name in KINDS}})


@pytest.mark.parametrize("component", KINDS)
def test_every_switch_of_a_component_is_found_where_it_belongs(component: str) -> None:
    """What a value says is in the workload when it is set, and is not there when it is not."""
    without = workload(component, {})
    given = workload(component, {name: value for name, (value, _) in POD_SWITCHES.items()})
    for name, (value, path) in POD_SWITCHES.items():
        assert has(place(given, path), value), name
        assert not has(place(without, path), value), name


@pytest.mark.parametrize("component", KINDS)
def test_what_is_set_leaves_the_rest_as_it_was(component: str) -> None:
    """Maps are merged over the defaults, and lists stand behind what the chart puts there itself."""
    without = workload(component, {})
    given = workload(component, {name: value for name, (value, _) in POD_SWITCHES.items()})
    for path in ("pod.securityContext", "container.securityContext", "container.readinessProbe", "pod.volumes"):
        old = place(without, path)
        assert has(
            place(given, path),
            {k: v for k, v in old.items() if k != "failureThreshold"} if isinstance(old, dict) else old,
        )
    assert place(given, "container.name") == component


@pytest.mark.parametrize("component", KINDS)
def test_null_leaves_a_key_to_the_cluster(component: str) -> None:
    """OpenShift chooses users and groups itself, so none of them may be named; the rest stays."""
    pod = {"runAsUser": None, "runAsGroup": None, "fsGroup": None, "supplementalGroups": None}
    given = workload(component, {"podSecurityContext": pod, "containerSecurityContext": {"runAsUser": None}})
    assert place(given, "pod.securityContext") == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert place(given, "container.securityContext") == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_null_on_the_command_line_is_null() -> None:
    """What Argo CD's parameters become, `--set x=null`, says the same as a file, for a key and for all of a map."""
    nulls = ("operator.podSecurityContext.fsGroup", "gateway.podSecurityContext", "gateway.livenessProbe")
    flags = [flag for name in nulls for flag in ("--set", f"{name}=null")]
    done = run_helm("template", "capstan", str(CHART), "--kube-version", "1.34.0", *flags)
    assert done.returncode == 0, done.stderr
    objects = [document for document in load_all(done.stdout) if document]
    operator, gateway = (one(objects, "Deployment", f"capstan-{name}") for name in ("operator", "gateway"))
    assert set(place(operator, "pod.securityContext")) == {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile"}
    assert place(gateway, "pod.securityContext") is None
    assert place(gateway, "container.livenessProbe") is None
    assert place(operator, "container.livenessProbe")


@pytest.mark.parametrize("component", KINDS)
def test_a_probe_can_be_of_another_kind(component: str) -> None:
    """What the default asks is taken out with null, and its times stay."""
    mine = {"grpc": {"port": 9}, "httpGet": None, "tcpSocket": None, "exec": None}
    given = workload(component, dict.fromkeys(("startupProbe", "livenessProbe", "readinessProbe"), mine))
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = place(given, f"container.{name}")
        assert probe["grpc"] == {"port": 9}
        assert set(probe) - {"grpc"} <= {"periodSeconds", "timeoutSeconds", "failureThreshold"}


@pytest.mark.parametrize("component", KINDS)
def test_constraints_of_spread_find_the_component(component: str) -> None:
    """A constraint that names no pods is one on this component's; an empty list is none at all."""
    given = workload(component, {"topologySpreadConstraints": [SPREAD]})
    selector = {"matchLabels": given["spec"]["selector"]["matchLabels"]}
    assert place(given, "pod.topologySpreadConstraints") == [{**SPREAD, "labelSelector": selector}]
    assert place(workload(component, {"topologySpreadConstraints": []}), "pod.topologySpreadConstraints") is None


@pytest.mark.parametrize("component", KINDS)
def test_labels_by_which_pods_are_found_stay(component: str) -> None:
    """A label of one component wins over that of all, but never over one that Services select by."""
    given = {
        component: {**ON.get(component, {}), "podLabels": {"team": "mine"}},
        "commonLabels": {"team": "all", "x": "y"},
    }
    objects = render({**ON, **given, "crds": {"enabled": False}})
    item = one(objects, KINDS[component], f"capstan-{component}")
    assert has(
        place(item, "template.metadata.labels"), {"team": "mine", "x": "y", **item["spec"]["selector"]["matchLabels"]}
    )
    wrong = {component: {**ON.get(component, {}), "podLabels": {"app.kubernetes.io/component": "mine"}}}
    done = try_render({**ON, **wrong})
    assert done.returncode != 0
    assert f"{component}.podLabels must not contain 'app.kubernetes.io/component'" in done.stderr


@pytest.mark.parametrize("component", KINDS)
def test_how_pods_are_replaced_is_a_value(component: str) -> None:
    """The strategy that is given takes the place of the chart's own, whole."""
    name = "updateStrategy" if component == "redis" else "strategy"
    mine = (
        {"type": "OnDelete"}
        if component == "redis"
        else {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%"}}
    )
    assert workload(component, {name: mine})["spec"][name] == mine


@pytest.mark.parametrize("component", ["operator", "scorer", "redis"])
def test_how_long_a_pod_may_take_to_end_is_a_value(component: str) -> None:
    """The gateway's follows from how long its streams are let go on; all others can be said."""
    given = workload(component, {"terminationGracePeriodSeconds": 61})
    assert place(given, "pod.terminationGracePeriodSeconds") == 61


@pytest.mark.parametrize("component", KINDS)
@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"maxUnavailable": 0}, {"maxUnavailable": 0}),
        ({"maxUnavailable": "25%"}, {"maxUnavailable": "25%"}),
        ({"minAvailable": 1}, {"minAvailable": 1}),
        ({"minAvailable": "50%"}, {"minAvailable": "50%"}),
    ],
)
def test_a_budget_says_one_thing(component: str, given: dict[str, Any], spec: dict[str, Any]) -> None:
    """As few pods as are given may be away, one where nothing is said, and the budget is on the component's pods."""
    several = {} if component == "redis" else {"replicas": 3}
    values = {**ON, component: {**ON.get(component, {}), **several, "podDisruptionBudget": {"enabled": True, **given}}}
    objects = render({**values, "crds": {"enabled": False}})
    budget = one(objects, "PodDisruptionBudget", f"capstan-{component}")["spec"]
    selector = one(objects, KINDS[component], f"capstan-{component}")["spec"]["selector"]
    assert budget == {**spec, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": selector}


def test_scorers_are_spread_and_kept_as_gateways_are() -> None:
    """Several scorers are on several nodes with a budget, one has neither, and Redis has none unless it is asked."""
    several = render({**ON, "crds": {"enabled": False}})
    spread = place(one(several, "Deployment", "capstan-scorer"), "pod.topologySpreadConstraints")
    assert [item["topologyKey"] for item in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    budgets = {item["metadata"]["name"] for item in several if item["kind"] == "PodDisruptionBudget"}
    assert budgets == {"capstan-gateway", "capstan-scorer"}
    alone = render({"scorer": {"enabled": True}, "crds": {"enabled": False}})
    assert place(one(alone, "Deployment", "capstan-scorer"), "pod.topologySpreadConstraints") is None
    assert {item["metadata"]["name"] for item in alone if item["kind"] == "PodDisruptionBudget"} == {"capstan-gateway"}


def test_further_objects_are_templates() -> None:
    """Objects as maps and as text become part of the release, and can use its name and values."""
    metadata = "{name: {{ .Release.Name }}-text, namespace: {{ .Release.Namespace }}}"
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}"
    mapped = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "a"},
        "data": {"level": "{{ .Values.gateway.logLevel }}"},
    }
    objects = render({"extraObjects": [mapped, text], "crds": {"enabled": False}})
    assert one(objects, "ConfigMap", "a")["data"] == {"level": "info"}
    assert one(objects, "ConfigMap", "capstan-text")["metadata"]["namespace"] == NAMESPACE


WRONG = {
    "at '/gateway/podSecurityContext': additional properties 'runAsUsr'": {
        "gateway": {"podSecurityContext": {"runAsUsr": 1}}
    },
    "at '/redis/podSecurityContext/fsGroup'": {"redis": {"podSecurityContext": {"fsGroup": "root"}}},
    "at '/scorer/livenessProbe': additional properties 'period'": {"scorer": {"livenessProbe": {"period": 1}}},
    "at '/operator/strategy': missing property 'type'": {"operator": {"strategy": {"rollingUpdate": {}}}},
    "at '/gateway/podDisruptionBudget/minAvailable'": {"gateway": {"podDisruptionBudget": {"minAvailable": "half"}}},
    "at '/gateway/dnsPolicy'": {"gateway": {"dnsPolicy": "Mine"}},
    "at '/gateway/extraContainers/0': missing property 'image'": {"gateway": {"extraContainers": [{"name": "a"}]}},
    "gateway.podDisruptionBudget.minAvailable and gateway.podDisruptionBudget.maxUnavailable exclude": {
        "gateway": {"podDisruptionBudget": {"minAvailable": 1, "maxUnavailable": 1}}
    },
    "operator.strategy other than Recreate needs operator.leaderElection": {
        "operator": {"leaderElection": False, "strategy": {"type": "RollingUpdate"}}
    },
    "at '/redis/topologySpreadConstraints/0': missing property 'maxSkew'": {
        "redis": {"topologySpreadConstraints": [{"topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]}
    },
    "use --reset-then-reuse-values": {"aggregatedRoles": None},
}


@pytest.mark.parametrize("words", WRONG)
def test_refuses_what_cannot_be(words: str) -> None:
    """Unknown keys, wrong types and contradictions are refused with a sentence that says where."""
    done = try_render(WRONG[words])
    assert done.returncode != 0
    assert words in done.stderr


def test_values_of_an_older_chart_are_refused_before_anything_reads_them(tmp_path: Path) -> None:
    """`--reuse-values` puts the values of the release before in the place of the chart's own: whoever does that is told
    what to do, and not of the first value that is not there."""
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    (chart / "values.yaml").write_text("{}")
    done = run_helm("template", "capstan", str(chart), "--namespace", NAMESPACE, "--kube-version", "1.34.0")
    assert done.returncode != 0
    assert "use --reset-then-reuse-values in place of --reuse-values" in done.stderr
