"""What the session tells: the table once everything has come up or failed, then one line for each change."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from capstan_contract.config import CascadeBackend, ExternalBackend, GatewayConfig, ModelEntry, RouterBackend
from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EngineType
from capstan_operator.desired.naming import is_of_policy, owner_of_credential
from capstan_operator.local.describe import SIMULATED, Access, Row, changes, curl_lines, table
from capstan_operator.local.launch import Launch
from capstan_operator.local.plan import Process, Slot, State
from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class Scene:
    """Everything as it is in one step."""

    models: Collection[Model]
    config: GatewayConfig
    refused: Mapping[ObjectKey, str]
    """Why the gateway config leaves a model out."""
    reduced: Mapping[ObjectKey, str]
    """What a virtual model that is served has to do without."""
    policies: Mapping[str, str]
    """Why policies are not in force, by the ids of their entries."""
    absent: Mapping[ObjectKey, str]
    """Why a model has no engine here."""
    missing_keys: Mapping[str, str]
    """The variable that is not set, by credential file."""
    launches: Mapping[Slot, Launch]
    processes: Collection[Process]
    resting: Collection[tuple[Slot, Launch]]
    has_redis: bool = True
    """Whether the gateway has a place for what it stores."""


class Teller:
    """Remembers what it has told, so that nothing is told twice."""

    def __init__(
        self,
        address: str,
        folder: Path,
        state: Path,
        *,
        access: Access,
        say: Callable[[str, str], None],
        show: Callable[[str], None],
    ) -> None:
        self._address = address
        self._folder = folder
        self._state = state
        self._access = access
        self._say = say
        self._show = show
        self._presented = False
        self._scene: Scene | None = None
        self._live = GatewayConfig.build(())
        """The config that the gateway runs."""
        self._problems: frozenset[tuple[str, str]] = frozenset()

    def look(self, scene: Scene) -> None:
        """Tell problems that are new; present everything the first time that nothing is coming up any more."""
        problems = frozenset(problems_of(scene))
        for name, problem in sorted(problems - self._problems):
            self._say(name, problem)
        self._problems = problems
        self._scene = scene
        self._present()

    def live(self, config: GatewayConfig) -> None:
        """Tell what clients notice, now that the gateway runs `config`."""
        before, self._live = self._live, config
        if not self._presented:
            self._present()
            return
        for name, sentence in changes(before, config):
            self._say(name, sentence)

    def _present(self) -> None:
        scene = self._scene
        if self._presented or scene is None or scene.config.hash != self._live.hash or not is_settled(scene):
            return
        self._presented = True
        self._show(presentation(scene, self._address, self._folder, self._state, self._access))


def problems_of(scene: Scene) -> Iterator[tuple[str, str]]:
    """Give (subject, sentence) for what keeps models from being served, apart from engines that are coming up, and
    policies from being in force, and for what has no effect here."""
    for key, message in sorted(scene.refused.items()):
        yield key.name, f"is not served: {message}"
    for key, message in sorted(scene.reduced.items()):
        yield key.name, f"is served with less than it names: {message}"
    for id_, message in sorted(scene.policies.items()):
        yield f"policy {id_.rpartition('/')[2]}", message
    for key, reason in sorted(scene.absent.items()):
        yield key.name, f"has no engine: {reason}"
    for file, variable in sorted(scene.missing_keys.items()):
        if is_of_policy(file):
            yield "guards", f"one has no key: set {variable} and start again"
            continue
        key, endpoint = owner_of_credential(file)
        what = f" for its endpoint '{endpoint}'" if endpoint else ""
        yield key.name, f"has no API key{what}: set {variable} and start again"
    if not scene.has_redis and any(entry.evaluation is not None for entry in scene.config.models):
        yield "evaluation", "has no effect: no answer is sampled without a Redis; name one by --redis-url"
    for model in sorted(scene.models, key=lambda model: model.key):
        if model.spec is not None and model.spec.rollouts.steps:
            sentence = "have no effect: there is no canary without a cluster, and a change is live at once"
            yield model.key.name, f"`spec.rollout.steps` {sentence}"


def is_settled(scene: Scene) -> bool:
    """Say whether every wanted process is ready or has failed."""
    ready = {(process.slot, process.launch) for process in scene.processes if process.state is State.READY}
    return all(pair in ready or pair in scene.resting for pair in scene.launches.items())


def presentation(scene: Scene, address: str, folder: Path, state: Path, access: Access) -> str:
    """Write what is served where, and how to try it."""
    rows = _rows(scene)
    served = {row.name for row in rows if row.state == "ready"}
    entries = [entry for entry in scene.config.models if entry.id.rpartition("/")[2] in served]
    parts = [f"Capstan serves {folder} at {address}/v1", table(rows)]
    if any(launch.engine is EngineType.SIMULATOR for launch in scene.launches.values()):
        parts.append("Simulated models answer without a model: what they say is made up. make run-vllm runs real ones.")
    parts.append(access.text)
    if lines := curl_lines(address, entries, access):
        parts.append("Try it:\n\n" + "\n\n".join(f"  {line}" for line in lines))
    parts.append(
        f"Edit a file in {folder} and save it: the change is live without a restart.\n"
        f"Logs are in {state / 'logs'}. Ctrl-C stops everything."
    )
    return "\n" + "\n\n".join(parts) + "\n"


def _rows(scene: Scene) -> list[Row]:
    """Give one row for each model; that of a virtual one says what the rows of its members say."""
    entries = {entry.id: entry for entry in scene.config.models}
    rows: dict[str, Row] = {}
    for model in sorted(scene.models, key=lambda model: (_depth(entries.get(str(model.key))), model.key)):
        entry = entries.get(str(model.key))
        if entry and isinstance(entry.backend, RouterBackend | CascadeBackend):
            rows[entry.id] = _virtual_row(entry, entry.backend, rows)
        else:
            rows[str(model.key)] = _row(model, entry, scene)
    return [rows[str(model.key)] for model in sorted(scene.models, key=lambda model: model.key)]


def _depth(entry: ModelEntry | None) -> int:
    """Order models so that members come before what they are members of."""
    return 0 if entry is None else {"Router": 2, "Cascade": 1}.get(entry.backend.kind, 0)


def _virtual_row(entry: ModelEntry, backend: RouterBackend | CascadeBackend, rows: Mapping[str, Row]) -> Row:
    members = [member.model for member in backend.members] if isinstance(backend, RouterBackend) else backend.members
    names = ", ".join(rows[member].name for member in members)
    state = "ready" if any(rows[member].state == "ready" for member in members) else "no member is ready"
    return Row(
        entry.id.rpartition("/")[2], (entry.servedName, *entry.aliases), f"{backend.kind.lower()}: {names}", state
    )


def _row(model: Model, entry: ModelEntry | None, scene: Scene) -> Row:
    names = (entry.servedName, *entry.aliases) if entry else ()
    launches = [launch for slot, launch in scene.launches.items() if slot.model == model.key]
    if entry is None:
        return Row(model.key.name, names, "-", "not served")
    if isinstance(entry.backend, ExternalBackend):
        missing = all(endpoint.credentialFile in scene.missing_keys for endpoint in entry.backend.endpoints)
        where = ", ".join(endpoint.url for endpoint in entry.backend.endpoints)
        return Row(model.key.name, names, where, "no API key" if missing else "ready")
    if not launches:
        return Row(model.key.name, names, "-", "no engine" if model.key in scene.absent else "no replicas")
    engine = SIMULATED if launches[0].engine is EngineType.SIMULATOR else launches[0].title
    times = f"{len(launches)} x " if len(launches) > 1 else ""
    ready = sum(1 for process in scene.processes if process.slot.model == model.key and process.state is State.READY)
    state = "ready" if ready == len(launches) else f"{ready} of {len(launches)} ready" if ready else "not ready"
    return Row(model.key.name, names, times + engine, state)
