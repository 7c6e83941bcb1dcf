"""What the chart makes so that clients outside of the cluster reach the gateway, and what it tells the operator."""

import json
from typing import Any

import pytest

from capstan_operator.settings import BuildSettings, load_settings
from support.helm import NAMESPACE, one, pod_specs, render, try_render

GATEWAY_API = "gateway.networking.k8s.io/v1"
INFERENCE = "inference.networking.k8s.io/v1"
NAME = "capstan-gateway"
PARENTS = [{"name": "public", "namespace": "infra", "sectionName": "https"}]


def with_ingress(**values: Any) -> list[dict[str, Any]]:
    """Render with an Ingress."""
    return render({"gateway": {"ingress": {"enabled": True, "hosts": ["llm.example.com"], **values}}})


def with_route(**values: Any) -> list[dict[str, Any]]:
    """Render with an HTTPRoute."""
    route = {"enabled": True, "parentRefs": PARENTS, "hostnames": ["llm.example.com"], **values}
    return render({"gateway": {"httpRoute": route}}, apis=(GATEWAY_API,))


def told(objects: list[dict[str, Any]]) -> BuildSettings:
    """Give what the operator is told."""
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    return load_settings({entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}).build


def gateway_env(objects: list[dict[str, Any]], name: str) -> str:
    """Give what a variable of the gateway says."""
    container = pod_specs(objects)[NAME]["containers"][0]
    return str(next(entry["value"] for entry in container["env"] if entry["name"] == name))


def annotations(objects: list[dict[str, Any]], kind: str = "Ingress") -> dict[str, str]:
    """Give those of the gateway's object of a kind."""
    return dict(one(objects, kind, NAME)["metadata"].get("annotations") or {})


def test_nothing_is_exposed_unless_somebody_asks_for_it() -> None:
    """There is neither an Ingress nor a route, nor any right to InferencePools."""
    objects = render()
    assert not {"Ingress", "HTTPRoute"} & {item["kind"] for item in objects}
    assert not _pool_verbs(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator")
    assert told(objects).inference_pools is False


def test_an_ingress_leads_to_the_gateway() -> None:
    """Host, class, path, certificate, labels and annotations are as the values say; `status.endpoint` has the host."""
    tls = [{"secretName": "llm-tls", "hosts": ["llm.example.com"]}]
    said = {"labels": {"a": "b"}, "annotations": {"c/d": "e"}, "hosts": ["llm.example.com", "b.c"]}
    objects = with_ingress(className="internal", path="/v1", tls=tls, **said)
    found = one(objects, "Ingress", NAME)
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}
    paths = {"paths": [{"path": "/v1", "pathType": "Prefix", "backend": backend}]}
    assert found["spec"] == {
        "ingressClassName": "internal",
        "tls": tls,
        "rules": [{"host": "llm.example.com", "http": paths}, {"host": "b.c", "http": paths}],
    }
    assert found["metadata"]["labels"]["a"] == "b"
    assert annotations(objects) == {"c/d": "e"}
    ports = {port["name"] for port in one(objects, "Service", NAME)["spec"]["ports"]}
    assert "http" in ports
    assert told(objects).gateway_url == "https://llm.example.com/v1"


def test_nginx_neither_gathers_nor_gives_up() -> None:
    """Both controllers of that name: ingress-nginx says seconds, that of F5 durations; the user's annotations win."""
    theirs = {"nginx.ingress.kubernetes.io/proxy-body-size": "8m"}
    found = annotations(with_ingress(controller="nginx", timeoutSeconds=700, annotations=theirs))
    assert found == {
        "nginx.ingress.kubernetes.io/proxy-body-size": "8m",
        "nginx.ingress.kubernetes.io/proxy-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "700",
        "nginx.ingress.kubernetes.io/proxy-request-buffering": "off",
        "nginx.ingress.kubernetes.io/proxy-send-timeout": "700",
        "nginx.org/client-max-body-size": "0",
        "nginx.org/proxy-buffering": "false",
        "nginx.org/proxy-read-timeout": "700s",
        "nginx.org/proxy-send-timeout": "700s",
    }


def test_haproxy_waits() -> None:
    """Both controllers of that name: that of HAProxy Technologies, and HAProxy Ingress."""
    assert annotations(with_ingress(controller="haproxy", timeoutSeconds=700)) == {
        "haproxy.org/timeout-server": "700s",
        "haproxy-ingress.github.io/timeout-server": "700s",
    }


def test_an_alb_waits_and_is_the_first_to_end_a_connection() -> None:
    """It waits for 4000 s at most, and the gateway keeps connections for longer than that."""
    objects = with_ingress(controller="alb", timeoutSeconds=7200, tls=[{"hosts": ["llm.example.com"]}])
    prefix = "alb.ingress.kubernetes.io"
    assert annotations(objects) == {
        f"{prefix}/target-type": "ip",
        f"{prefix}/healthcheck-path": "/readyz",
        f"{prefix}/load-balancer-attributes": "idle_timeout.timeout_seconds=4000",
        f"{prefix}/target-group-attributes": "deregistration_delay.timeout_seconds=600",
        f"{prefix}/listen-ports": '[{"HTTP": 80}, {"HTTPS": 443}]',
        f"{prefix}/ssl-redirect": "443",
    }
    assert gateway_env(objects, "CAPSTAN_GATEWAY_CLIENT_KEEP_ALIVE_SECONDS") == "4015"


def test_gke_has_what_its_controller_reads_on_the_service() -> None:
    """The class is an annotation there; the Service names a BackendConfig with timeout and health check."""
    objects = with_ingress(controller="gce", className="gce-internal", timeoutSeconds=700)
    assert annotations(objects) == {"kubernetes.io/ingress.class": "gce-internal"}
    assert "ingressClassName" not in one(objects, "Ingress", NAME)["spec"]
    found = annotations(objects, "Service")
    assert json.loads(found["cloud.google.com/neg"]) == {"ingress": True}
    assert json.loads(found["cloud.google.com/backend-config"]) == {"default": NAME}
    assert one(objects, "BackendConfig", NAME)["spec"] == {
        "timeoutSec": 700,
        "connectionDraining": {"drainingTimeoutSec": 600},
        "healthCheck": {"type": "HTTP", "requestPath": "/readyz", "port": 8080},
    }
    ports = {port["name"]: port["containerPort"] for port in pod_specs(objects)[NAME]["containers"][0]["ports"]}
    assert ports["http"] == 8080
    assert gateway_env(objects, "CAPSTAN_GATEWAY_CLIENT_KEEP_ALIVE_SECONDS") == "620"


def test_openshift_makes_a_route_that_waits() -> None:
    """Its certificate is the cluster's own where `tls` has an entry that names none."""
    objects = with_ingress(controller="openshift", tls=[{}], timeoutSeconds=700)
    assert annotations(objects) == {
        "haproxy.router.openshift.io/timeout": "700s",
        "route.openshift.io/termination": "edge",
    }
    assert one(objects, "Ingress", NAME)["spec"]["tls"] == [{}]


def test_a_route_leads_to_the_gateway() -> None:
    """Parents, hosts and timeouts are those of the values; nothing is cut off of paths of the API. What the CRD would
    add by default is there: Argo CD compares such lists as wholes, and would never see the route as it wants it."""
    service = {"group": "", "kind": "Service", "name": "capstan-gateway"}
    objects = with_route(path="/v1", parentRefs=[*PARENTS, service])
    assert one(objects, "HTTPRoute", NAME)["spec"] == {
        "parentRefs": [{**PARENTS[0], "group": "gateway.networking.k8s.io", "kind": "Gateway"}, service],
        "hostnames": ["llm.example.com"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                "timeouts": {"request": "0s", "backendRequest": "0s"},
                "backendRefs": [{"group": "", "kind": "Service", "name": NAME, "port": 80, "weight": 1}],
            }
        ],
    }
    assert told(objects).gateway_url == "https://llm.example.com/v1"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat"])
def test_a_path_of_the_gateways_own_comes_as_it_is(path: str) -> None:
    """All paths, the API and what is in it are what the gateway serves: nothing of them is cut off."""
    (rule,) = one(with_route(path=path), "HTTPRoute", NAME)["spec"]["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": path}}]
    assert "filters" not in rule


def test_another_path_of_a_route_is_cut_off() -> None:
    """The gateway gets what is behind it, and `status.endpoint` says it; timeouts can be left to the implementation."""
    theirs = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}
    timeouts = {"request": "", "backendRequest": ""}
    objects = with_route(path="/llm", scheme="http", filters=[theirs], timeouts=timeouts)
    (rule,) = one(objects, "HTTPRoute", NAME)["spec"]["rules"]
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    assert rule["filters"] == [theirs, {"type": "URLRewrite", "urlRewrite": rewrite}]
    assert "timeouts" not in rule
    assert told(objects).gateway_url == "http://llm.example.com/llm/v1"


@pytest.mark.parametrize(
    ("controller", "kind", "spec"),
    [
        ("kgateway", "TrafficPolicy", {"timeouts": {"streamIdle": "700s"}}),
        ("nginx", "ProxySettingsPolicy", {"buffering": {"disable": True}}),
    ],
)
def test_some_implementations_need_an_object_beside_a_route(controller: str, kind: str, spec: dict[str, Any]) -> None:
    """It names the route, and lets long answers through."""
    found = one(with_route(controller=controller, timeoutSeconds=700), kind, NAME)["spec"]
    (target,) = found.pop("targetRefs")
    assert target == {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": NAME}
    assert found == spec


def test_gke_needs_two() -> None:
    """A timeout, and a health check on the port that serves clients, both of the Service."""
    objects = with_route(controller="gke", timeoutSeconds=700)
    target = {"group": "", "kind": "Service", "name": NAME}
    assert one(objects, "GCPBackendPolicy", NAME)["spec"] == {
        "default": {"timeoutSec": 700, "connectionDraining": {"drainingTimeoutSec": 600}},
        "targetRef": target,
    }
    check = {"portSpecification": "USE_FIXED_PORT", "port": 8080, "requestPath": "/readyz"}
    assert one(objects, "HealthCheckPolicy", NAME)["spec"] == {
        "default": {"config": {"type": "HTTP", "httpHealthCheck": check}},
        "targetRef": target,
    }
    assert gateway_env(objects, "CAPSTAN_GATEWAY_CLIENT_KEEP_ALIVE_SECONDS") == "620"


@pytest.mark.parametrize(
    ("gateway", "url"),
    [
        ({"url": "https://a.example.com/v1"}, "https://a.example.com/v1"),
        ({"ingress": {"hosts": ["*.example.com"]}}, f"http://{NAME}.{NAMESPACE}.svc/v1"),
        ({"ingress": {"path": "/llm/"}}, "http://llm.example.com/llm/v1"),
    ],
)
def test_the_address_outside(gateway: dict[str, Any], url: str) -> None:
    """One that is given wins; a wildcard is none; what stands before the API belongs to it."""
    ingress = {"enabled": True, "hosts": ["llm.example.com"], **gateway.get("ingress", {})}
    assert told(render({"gateway": {**gateway, "ingress": ingress}})).gateway_url == url


@pytest.mark.parametrize(
    ("gateway", "apis", "words"),
    [
        ({"ingress": {"enabled": True, "controller": "openshift"}}, (), "gateway.ingress.hosts is needed"),
        ({"ingress": {"enabled": True, "controller": "gce", "annotations": {"kubernetes.io/ingress.class": "x"}}}, (),
         "gateway.ingress.className"),
        ({"httpRoute": {"enabled": True}}, (GATEWAY_API,), "needs gateway.httpRoute.parentRefs"),
        ({"httpRoute": {"enabled": True, "parentRefs": PARENTS}}, (), "does not know gateway.networking.k8s.io/v1"),
    ],
)  # fmt: skip
def test_what_would_expose_nothing_is_refused(gateway: dict[str, Any], apis: tuple[str, ...], words: str) -> None:
    """With the value that is wrong, and why."""
    done = try_render({"gateway": gateway}, apis=apis)
    assert done.returncode != 0
    assert words in done.stderr


def _pool_verbs(objects: list[dict[str, Any]], kind: str, name: str) -> list[list[str]]:
    rules = one(objects, kind, name)["rules"]
    return [rule["verbs"] for rule in rules if "inference.networking.k8s.io" in rule["apiGroups"]]


def test_pools_are_asked_for_with_the_rights_that_they_need() -> None:
    """The operator is told whom pools name, and may write them where it works; the chart makes none itself."""
    picker = {"service": "picker-of-{model}", "port": 9003, "failureMode": "FailOpen"}
    objects = render({"models": {"inferencePools": {"enabled": True, "endpointPicker": picker}}})
    found = told(objects)
    assert (found.inference_pools, found.endpoint_picker) == (True, "picker-of-{model}")
    assert (found.endpoint_picker_port, found.endpoint_picker_failure_mode) == (9003, "FailOpen")
    verbs = _pool_verbs(objects, "ClusterRole", f"{NAMESPACE}-capstan-operator")
    assert verbs == [["list", "create", "patch", "delete"]]


def test_what_an_earlier_setting_has_made_can_go() -> None:
    """Where the cluster knows pools, an install that asks for none may take its own away."""
    objects = render({"operator": {"watchNamespaces": ["team-a"]}}, apis=(INFERENCE,))
    roles = [item for item in objects if item["kind"] == "Role" and item["metadata"]["namespace"] == "team-a"]
    rules = [rule for role in roles for rule in role["rules"] if "inference.networking.k8s.io" in rule["apiGroups"]]
    assert [rule["verbs"] for rule in rules] == [["list", "delete"]]
    container = pod_specs(objects)["capstan-operator"]["containers"][0]
    settings = load_settings({entry["name"]: entry["value"] for entry in container["env"] if "value" in entry})
    assert (settings.build.inference_pools, settings.prune_inference_pools) == (False, True)
