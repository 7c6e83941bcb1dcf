"""What the parts of a whole operator do for HPAs, in the process that leads and in those that do not."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from capstan_contract.demand import ModelDemand
from capstan_contract.names import ADMIN_KEY_FIELD, API_VERSION
from capstan_operator.composition import Runtime, Tasks
from capstan_operator.metrics import Metrics
from capstan_operator.metrics_api.place import Place
from capstan_operator.metrics_api.registration import NAME
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import BuildSettings, Settings
from capstan_operator.watch.watches import Echoes
from fakes.apply_kube import ApplyKube
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.wait import eventually

HOME, KEY, CREDENTIAL = "capstan-system", ObjectKey("team", "llama"), "k" * 32


def world(admin_port: int) -> tuple[ApplyKube, Runtime]:
    """A scaled model, a gateway replica that is ready, and the parts of an operator."""
    kube = ApplyKube()
    kube.put(
        {
            "apiVersion": API_VERSION,
            "kind": "LLMModel",
            "metadata": {"name": KEY.name, "namespace": KEY.namespace},
            "spec": {"model": {"source": "hf://a/b"}, "scaling": {"max": 5}},
        }
    )
    kube.put(slice_in(HOME))
    settings = Settings(build=BuildSettings(gateway_service="gw"), gateway_admin_port=admin_port)
    return kube, Runtime(kube, settings, metrics=Metrics(), echoes=Echoes(), identity="op")


@asynccontextmanager
async def standing_by(runtime: Runtime) -> AsyncIterator[Tasks]:
    """Run what a process runs that never leads."""
    tasks = Tasks()
    tasks.start(runtime.replica_tasks())
    try:
        yield tasks
    finally:
        await tasks.stop()


async def test_a_replica_that_does_not_lead_answers_as_well() -> None:
    """HPAs are sent to any of them, and the gateway tells what is asked of models to who has its credential: each
    reads that, and only the one that leads makes it."""
    port, gateway = free_port(), Replica()
    gateway.wants, gateway.demand = CREDENTIAL, {str(KEY): ModelDemand(inFlight=80)}
    kube, runtime = world(port)
    data = {ADMIN_KEY_FIELD: base64.b64encode(CREDENTIAL.encode()).decode()}
    name = {"name": "capstan-gateway-admin", "namespace": HOME}
    kube.put({"apiVersion": "v1", "kind": "Secret", "metadata": name, "data": data})

    async def answers() -> bool:
        return bool(await runtime.loads.of(KEY))

    async with serve(gateway, port), standing_by(runtime) as tasks:
        await eventually(answers, what="how many replicas are asked for")
        assert not tasks.ended.is_set()
    assert not [call for call in kube.calls if call[0] == "apply"]


async def test_a_new_leader_lets_the_api_be_until_it_has_looked_at_all_models() -> None:
    """Else each start would take it away for seconds, from the HPAs of a whole cluster."""
    kube, runtime = world(free_port())
    kube.remove("LLMModel", KEY.name, KEY.namespace)
    place = Place(6443, HOME, "metrics")
    service = {"name": place.service, "namespace": place.namespace}
    api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}}
    kube.put({**api, "spec": {"service": service}})
    await runtime.registration.step(place)
    assert kube.find("APIService", NAME, "")
    await runtime.resync._pass()
    await runtime.registration.step(place)
    assert kube.find("APIService", NAME, "") is None
