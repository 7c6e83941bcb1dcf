"""One run of `capstan up`: a folder of manifests is served, and follows every change, until a signal ends it.

Level-triggered like the operator: whatever happens only wakes the loop; a step looks at the manifests and the processes
as they are, starts and stops what the plan says, and writes the gateway config when it is not what it should be.
"""

import asyncio
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import aiohttp
from watchfiles import awatch

from capstan_contract.config import Backend, ConfigError, GatewayConfig, StaticBackend
from capstan_operator.api.kinds import Model, Policy
from capstan_operator.desired.brought import Brought
from capstan_operator.desired.compile import compile_gateway, default_backend
from capstan_operator.desired.live import LiveConfig
from capstan_operator.desired.members import describe
from capstan_operator.desired.name_rules import ONE_TENANT
from capstan_operator.desired.queueing import InstalledQueue
from capstan_operator.desired.starting import CRASH_LOOP, START_FAILURE
from capstan_operator.desired.types import CompiledGateway
from capstan_operator.local.configdir import write_atomically, write_config
from capstan_operator.local.engine_processes import Engines
from capstan_operator.local.errors import NothingToServe
from capstan_operator.local.folder import Folder
from capstan_operator.local.gateway_process import GatewayProcess
from capstan_operator.local.key_book import KeyBook
from capstan_operator.local.keys import write_credentials
from capstan_operator.local.launch import Choices, Launch, NotHere, on_chosen_engine, plan_launch, wanted_replicas
from capstan_operator.local.plan import Process, Slot, failing_models, plan_processes, serving_processes
from capstan_operator.local.ports import check_port
from capstan_operator.local.statedir import ADDRESS, state_directory
from capstan_operator.local.tell import Scene, Teller
from capstan_operator.resources.resource import ObjectKey

HOST = "127.0.0.1"
"""Local mode has no TLS, so it is only for programs of this machine."""
QUIET_MILLISECONDS = 50
LONGEST_BURST_MILLISECONDS = 400
REREAD_MILLISECONDS = 1000


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    folder: Path
    port: int
    state: Path
    choices: Choices
    environment: Mapping[str, str] = field(repr=False)
    everybody: bool = False
    """Serve without API keys."""
    tokenizers: Path | None = None
    """A directory of tokenizers, by which the gateway counts prompts."""


async def serve(options: Options, *, say: Callable[[str, str], None], show: Callable[[str], None]) -> None:
    """Serve the folder until SIGINT or SIGTERM. Raises LocalError when it cannot begin.

    `say` gets (subject, sentence) of each event; `show` gets longer texts.
    """
    with state_directory(options.state):
        check_port(HOST, options.port)
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            await _Session(options, http=http, tasks=tasks, say=say, show=show).run()


class _Session:
    def __init__(
        self,
        options: Options,
        *,
        http: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        say: Callable[[str, str], None],
        show: Callable[[str], None],
    ) -> None:
        self._options = options
        self._queue = None if options.choices.redis_url is None else InstalledQueue()
        self._tasks = tasks
        self._say = say
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._folder = Folder(options.folder)
        self._models: tuple[Model, ...] = ()
        self._policies: tuple[Policy, ...] = ()
        self._brought: Mapping[ObjectKey, Brought] = {}
        self._config = GatewayConfig.build(())
        self._gateway_is_up = False
        environment = dict(options.environment)
        self._keys = KeyBook(options.state, say=say)
        self._gateway = GatewayProcess(
            http=http,
            host=HOST,
            port=options.port,
            folder=options.state,
            environment=environment,
            say=say,
            admin_key=self._keys.admin_key,
            admin_file=self._keys.admin_file,
            everybody=options.everybody,
            tokenizers=options.tokenizers,
        )
        self._teller = Teller(
            self._gateway.address,
            options.folder,
            options.state,
            access=self._keys.access(everybody=options.everybody),
            say=say,
            show=show,
        )
        self._engines = Engines(
            tasks=tasks,
            http=http,
            folder=options.state,
            environment=environment,
            say=say,
            changed=self._wake.set,
            before_drain=self._everybody_knows,
        )

    async def run(self) -> None:
        """Begin, follow, end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        self._read()
        if not self._models:
            raise NothingToServe(f"{self._options.folder} has no LLMModel that can be served")
        self._config = self._keys.into(self._config)
        write_config(self._options.state / "config", self._config)
        try:
            self._step()
            await self._gateway.start()
            self._gateway_is_up = True
            write_atomically(self._options.state / ADDRESS, f"{self._gateway.address}\n")
            self._tasks.create_task(self._tell_when_live())
            self._tasks.create_task(self._gateway.keep_running())
            self._tasks.create_task(self._watch())
            while not self._stop.is_set():
                self._wake.clear()
                self._step()
                await self._wake.wait()
        finally:
            self._stop.set()
            await self._gateway.close()
            await self._engines.close()

    def _on_signal(self) -> None:
        if self._stop.is_set():
            self._gateway.kill()
            self._engines.kill()
            return
        self._stop.set()
        self._wake.set()
        self._say("capstan", "stopping (once more to stop at once)")

    async def _watch(self) -> None:
        """Read again after every change, and now and then without one: the watch is a hint, the files are the truth."""
        changes = awatch(
            self._folder.watched,
            self._keys.folder,
            watch_filter=lambda _, path: self._folder.holds(Path(path)) or self._keys.holds(Path(path)),
            stop_event=self._stop,
            step=QUIET_MILLISECONDS,
            debounce=LONGEST_BURST_MILLISECONDS,
            rust_timeout=REREAD_MILLISECONDS,
            yield_on_timeout=True,
        )
        async for _ in changes:
            if self._keys.has_changed():
                self._wake.set()
            before = self._models, self._policies, self._brought
            self._read()
            if (self._models, self._policies, self._brought) != before:
                self._wake.set()

    def _read(self) -> None:
        """Read the manifests; faults are told, and what was right before stays."""
        reading = self._folder.read()
        for subject, sentence in reading.news:
            self._say(subject, sentence)
        self._models = tuple(on_chosen_engine(model, self._options.choices) for model in reading.models)
        self._policies = reading.policies
        self._brought = reading.brought

    def _step(self) -> None:
        """Bring processes and config one step nearer to what the manifests say."""
        verdicts = compile_folder(self._models, self._config, lambda _: StaticBackend(urls=())).verdicts
        accepted = [model for model in self._models if verdicts[model.key].accepted]
        launches, absent = _launches(accepted, self._options.choices, self._brought)
        self._engines.carry_out(plan_processes(self._engines.processes, launches, self._engines.resting))
        serving = serving_processes(self._engines.processes, launches)
        failing = failing_models(self._engines.processes, launches, self._engines.crashes)
        told = [with_start_failure(model, failing.get(model.key)) for model in accepted]
        compiled = compile_folder(
            told, self._config, lambda model: _backend(model, serving), self._policies, queue=self._queue
        )
        missing = write_credentials(
            self._options.state / "credentials", compiled.credentials, self._options.environment
        )
        self._deliver(self._keys.into(compiled.config))
        self._teller.look(
            Scene(
                models=self._models,
                config=self._config,
                refused={key: verdict.message for key, verdict in verdicts.items() if not verdict.accepted},
                reduced={key: describe(verdict.without) for key, verdict in verdicts.items() if verdict.without},
                policies={id_: found.message for id_, found in compiled.policies.items() if not found.accepted},
                absent=absent,
                missing_keys=missing,
                launches=launches,
                processes=self._engines.processes,
                resting=self._engines.resting,
                has_redis=bool(self._options.environment.get("CAPSTAN_GATEWAY_REDIS_URL")),
            )
        )

    def _deliver(self, config: GatewayConfig) -> None:
        if config.hash == self._config.hash:
            return
        try:
            write_config(self._options.state / "config", config)
        except ConfigError as error:
            self._say("gateway", f"keeps its config: {error}")
            return
        self._config = config
        if self._gateway_is_up:
            self._tasks.create_task(self._tell_when_live())

    async def _tell_when_live(self) -> None:
        problem = await self._gateway.acknowledged(lambda: self._config.hash)
        if problem is None:
            self._teller.live(self._config)
        elif not self._stop.is_set():
            self._say("gateway", f"does not take the new config: {problem}")

    async def _everybody_knows(self) -> None:
        """Wait until the gateway runs the newest config."""
        await self._gateway.acknowledged(lambda: self._config.hash)


def with_start_failure(model: Model, since: datetime | None) -> Model:
    """Give a model with a status that says whether its processes come up, whatever its file says of another place."""
    failure = {} if since is None else {START_FAILURE: {"reason": CRASH_LOOP, "since": since.isoformat()}}
    said = {field: value for field, value in model.status.items() if field != START_FAILURE}
    return replace(model, status={**said, **failure})


def compile_folder(
    models: Iterable[Model],
    running: GatewayConfig,
    backend_of: Callable[[Model], Backend],
    policies: Iterable[Policy] = (),
    *,
    queue: InstalledQueue | None = None,
) -> CompiledGateway:
    """Compile a folder: as in a cluster, a name stays with the one that serves under it, and a policy in force."""
    live = LiveConfig.of(running)
    return compile_gateway(models, policies=policies, live=live, rules=ONE_TENANT, backend_of=backend_of, queue=queue)


def _launches(
    models: list[Model], choices: Choices, brought: Mapping[ObjectKey, Brought]
) -> tuple[dict[Slot, Launch], dict[ObjectKey, str]]:
    """Give the engines to run here, and why some models have none."""
    launches: dict[Slot, Launch] = {}
    absent: dict[ObjectKey, str] = {}
    for model in models:
        launch = plan_launch(model, choices, brought.get(model.key, Brought()))
        if isinstance(launch, NotHere):
            absent[model.key] = launch.reason
        elif launch is not None and model.spec is not None:
            launches |= {Slot(model.key, number): launch for number in range(wanted_replicas(model.spec))}
    return launches, absent


def _backend(model: Model, serving: Mapping[ObjectKey, tuple[Process, ...]]) -> Backend:
    if model.spec is not None and model.spec.external is not None:
        return default_backend(model)
    processes = serving.get(model.key, ())
    asked = model.spec is not None and model.spec.engine.tells_blocks
    return StaticBackend(
        urls=tuple(process.url for process in processes),
        workers={process.url: process.worker_url for process in processes} if asked else {},
    )
