"""What a patch of the pod template must leave as Capstan made it. Pure.

The patched template is compared with the one before the patch, so that it does not matter by which of the ways of a
strategic merge (a value, null, `$patch`, `$retainKeys`) something was changed, and saying what Capstan says is allowed.

Kept as it is: the engine's start (unless the image is the user's own server), the ports, the preStop hook, the worker
beside the engine, the variables that are reserved, the labels. Everything else is the user's, probes too: they may be
tuned or replaced. Only the engine's readiness probe must not go, because a pod without one gets requests at once.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final

from capstan_contract.names import ENGINE_PORT, ENGINE_PORT_NAME, GROUP, STABLE, WORKER_PORT, WORKER_PORT_NAME
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.desired.arguments import Environment, resolve_environment
from capstan_operator.desired.naming import child_labels
from capstan_operator.desired.reserved import Facts
from capstan_operator.desired.wiring import reserved_variables, why_reserved
from capstan_operator.resources.resource import Fault, Manifest

ROOT: Final = "spec.template"
_ENGINE: Final = "engine"
_OURS: Final = (ENGINE_PORT, WORKER_PORT)
_NAMES: Final = (ENGINE_PORT_NAME, WORKER_PORT_NAME)
_START: Final = (
    "is how Capstan starts the engine: use `spec.engine.args`, or engine OpenAICompatible for another server"
)
_ARGS: Final = "must not be set here: use `spec.engine.args`"
_HOOK: Final = "must stay: it waits for the answers that are in flight before the engine is stopped"
_PORTS: Final = f"must leave {ENGINE_PORT} and {WORKER_PORT} as they are: the gateway and the probes use them"
_WORKER: Final = "is the worker of Capstan, which the probes ask: only its image, resources and mounts may change"
_READY: Final = "must not be removed: without it the pod gets requests while the model loads"


def find_template_faults(before: Manifest, after: Manifest, patch: Mapping[str, Any], facts: Facts) -> Iterator[Fault]:
    """Give what a patch has changed that has to stay. `before` and `after`: the whole template."""
    yield from _label_faults(child_labels(facts.name, STABLE), patch)
    there = {kind: _containers(before, kind) for kind in ("containers", "initContainers")}
    for kind, containers in there.items():
        for name, ours in containers.items():
            theirs = _containers(after, kind).get(name)
            path = f"{ROOT}.spec.{_place(patch, kind, name)}"
            if theirs is None:
                yield Fault(path, f"must not remove the container `{name}`")
            elif kind == "containers":  # Capstan makes one of each kind: the engine, and the worker beside it
                yield from _engine_faults(ours, theirs, path, facts)
            else:
                yield from _worker_faults(ours, theirs, path)
    yield from _strangers_on_our_ports(there, after, patch)


def _label_faults(ours: Mapping[str, str], patch: Mapping[str, Any]) -> Iterator[Fault]:
    """Capstan's labels find the pods; they are put back in any case, and a patch that says otherwise is a mistake."""
    metadata = _mapping(patch.get("metadata"))
    for field in ("labels", "annotations"):
        for key, value in _mapping(metadata.get(field)).items():
            owned = (field == "labels" and key in ours) or str(key).startswith(f"{GROUP}/")
            if owned and value != ours.get(key):
                yield Fault(f"{ROOT}.metadata.{field}", f"must not set {key}, which is Capstan's")


def _engine_faults(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str, facts: Facts) -> Iterator[Fault]:
    own_server = facts.spec.engine.type is EngineType.OPENAI_COMPATIBLE
    if not own_server and theirs.get("command") != ours.get("command"):
        yield Fault(f"{path}.command", _START)
    if theirs.get("args") != ours.get("args"):
        yield Fault(f"{path}.args", _ARGS)
    if _ports(theirs) != _ports(ours):
        yield Fault(f"{path}.ports", _PORTS)
    if _hook(theirs) != _hook(ours):
        yield Fault(f"{path}.lifecycle.preStop", _HOOK)
    if not theirs.get("readinessProbe"):
        yield Fault(f"{path}.readinessProbe", _READY)
    before, after = _variables(ours), _variables(theirs)
    values = resolve_environment(environment_of(theirs))
    for name in sorted(reserved_variables(facts)):
        if before.get(name) != after.get(name) and why_reserved(name, values.get(name), facts):
            yield Fault(f"{path}.env", f"must not set {name}, which Capstan relies on: see `spec.engine.env`")
    known = _sequence(ours.get("envFrom"))
    added = [source for source in _sequence(theirs.get("envFrom")) if source not in known]
    yield from _unnamed_variables(added, path, reserved_variables(facts) - after.keys())


def _unnamed_variables(sources: Sequence[Any], path: str, reserved: Set[str]) -> Iterator[Fault]:
    """Of `envFrom` nobody knows which variables it brings; a prefix says what their names begin with."""
    for source in sources:
        prefix = str(_mapping(source).get("prefix") or "")
        if name := next((name for name in sorted(reserved) if name.startswith(prefix)), None):
            message = f"must have a `prefix`: it may bring {name}, which Capstan relies on; or use `spec.engine.env`"
            yield Fault(f"{path}.envFrom", message)
            return


def environment_of(container: Mapping[str, Any]) -> Environment:
    """Give the variables of a container in their order."""
    found = [_mapping(item) for item in _sequence(container.get("env"))]
    return [(str(item.get("name")), _text(item)) for item in found]


def engine_of(template: Manifest) -> Mapping[str, Any]:
    """Give the engine's container of a template; empty when there is none."""
    return _containers(template, "containers").get(_ENGINE, {})


def may_bring(container: Mapping[str, Any], name: str) -> bool:
    """Say whether a ConfigMap or a Secret of `envFrom`, of which nobody knows the keys, may bring this variable."""
    sources = map(_mapping, _sequence(container.get("envFrom")))
    return any(name.startswith(str(source.get("prefix") or "")) for source in sources)


def _text(variable: Mapping[str, Any]) -> str | None:
    """Give the value of a variable; None when it comes from elsewhere."""
    value = variable.get("value")
    if variable.get("valueFrom"):
        return None
    return value if isinstance(value, str) else "" if value is None else None


def _worker_faults(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str) -> Iterator[Fault]:
    for field in ("command", "args", "restartPolicy"):
        if theirs.get(field) != ours.get(field):
            yield Fault(f"{path}.{field}", _WORKER)
    if _ports(theirs) != _ports(ours):
        yield Fault(f"{path}.ports", _PORTS)
    if any(_variables(theirs).get(name) != value for name, value in _variables(ours).items()):
        yield Fault(f"{path}.env", _WORKER)


def _strangers_on_our_ports(
    there: Mapping[str, Mapping[str, Any]], after: Manifest, patch: Mapping[str, Any]
) -> Iterator[Fault]:
    """The containers of a pod share its ports: another one that listens on ours keeps the engine from starting."""
    for kind, known in there.items():
        for name, container in _containers(after, kind).items():
            if name not in known and _ports(container):
                yield Fault(f"{ROOT}.spec.{_place(patch, kind, name)}.ports", _PORTS)


def _containers(template: Manifest, kind: str) -> dict[str, Mapping[str, Any]]:
    """Give the containers by name."""
    found = [_mapping(item) for item in _sequence(_mapping(template.get("spec")).get(kind))]
    return {str(item.get("name")): item for item in found}


def _ports(container: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
    """Give what matters of the ports that are Capstan's, or have one of the names under which they are found."""
    ports = [_mapping(item) for item in _sequence(container.get("ports"))]
    return [
        (port.get("containerPort"), port.get("name"), port.get("protocol", "TCP"))
        for port in ports
        if port.get("containerPort") in _OURS or port.get("name") in _NAMES
    ]


def _hook(container: Mapping[str, Any]) -> Any:
    return _mapping(container.get("lifecycle")).get("preStop")


def _variables(container: Mapping[str, Any]) -> dict[str, Any]:
    """Give the variables of a container; of one that is there twice, the last, as the kubelet does."""
    found = [_mapping(item) for item in _sequence(container.get("env"))]
    return {str(item.get("name")): {**item} for item in found}


def _place(patch: Mapping[str, Any], kind: str, name: str) -> str:
    """Say where the patch speaks of a container: `containers[1]`."""
    items = _sequence(_mapping(patch.get("spec")).get(kind))
    at = next((index for index, item in enumerate(items) if _mapping(item).get("name") == name), None)
    return kind if at is None else f"{kind}[{at}]"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
