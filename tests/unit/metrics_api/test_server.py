"""The API that HPAs read, by TLS, as the API server calls it."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from capstan_operator.api.kinds import Model
from capstan_operator.kube.errors import Unavailable
from capstan_operator.metrics_api.authority import (
    RENEW_AUTHORITY,
    Authority,
    is_due,
    issue,
    make_authority,
    read_authority,
)
from capstan_operator.metrics_api.front_proxy import FrontProxyError, read_front_proxy
from capstan_operator.metrics_api.loads import ASKED_SECONDS, MOST_READS, SPEC_SECONDS, Loads
from capstan_operator.metrics_api.place import Place
from capstan_operator.metrics_api.server import PATH, MetricsApi, model_of
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.demand import Demand
from fakes.apply_kube import ApplyKube
from support.certificates import make_authority as make_certificate
from support.plainmodels import make_model
from support.ports import free_port
from support.wait import eventually

KEY = ObjectKey("team", "llama")
METRIC = f"{PATH}/namespaces/team/capstan_desired_load?labelSelector=capstan.dev%2Fmodel%3Dllama"


class World:
    """A model, what is asked of it, and a cluster with a front proxy."""

    def __init__(self, folder: Path, name: str = "front-proxy-client") -> None:
        self.place = Place(free_port(), "capstan-system", "metrics")
        self.proxy = make_certificate(folder, name)
        self.kube = ApplyKube()
        self.authority = make_authority(datetime.now(UTC))
        self.demand: Demand | None = Demand(in_flight=80, ready=1)
        self.model: Model | None = make_model(scaling={"max": 5})
        self.clock = 0.0
        self.reads = 0
        self.failure: Exception | None = None
        self.loads = Loads(lambda _: self.demand, find=self.find, clock=lambda: self.clock)
        self.put(
            "ConfigMap",
            "kube-system",
            "extension-apiserver-authentication",
            {
                "requestheader-client-ca-file": (self.proxy / "ca.pem").read_text(),
                "requestheader-allowed-names": '["front-proxy-client"]',
            },
        )

    async def find(self, _: ObjectKey) -> Model | None:
        self.reads += 1
        if self.failure:
            raise self.failure
        return self.model

    def put(self, kind: str, namespace: str, name: str, data: dict[str, str]) -> None:
        metadata = {"name": name, "namespace": namespace}
        self.kube.put({"apiVersion": "v1", "kind": kind, "metadata": metadata, "data": data})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve, from when there is an authority on."""
        api = MetricsApi(self.kube, self.place, self.loads)
        task = asyncio.create_task(api.run())
        self.put("Secret", self.place.namespace, self.place.service, self.authority.data)

        async def listens() -> bool:
            api.rouse()
            try:
                await self.ask(PATH)
            except aiohttp.ClientError:
                return False
            return True

        try:
            await eventually(listens, what="the API")
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def ask(self, path: str, *, shown: bool = True) -> tuple[int, Any]:
        """Ask as the API server does; without a certificate where none is `shown`."""
        context = ssl.create_default_context(cadata=self.authority.certificates.decode())
        if shown:
            context.load_cert_chain(self.proxy / "cert.pem", self.proxy / "key.pem")
        url = f"https://127.0.0.1:{self.place.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(aiohttp.client.URL(url, encoded=True), ssl=context, server_hostname=self.place.host) as answer,
        ):
            return answer.status, await answer.json()


async def test_an_hpa_reads_how_many_replicas_are_asked_for(tmp_path: Path) -> None:
    """The document of the API, with a quantity; and discovery names the metric."""
    world = World(tmp_path)
    async with world.serving():
        status, found = await world.ask(METRIC)
        assert (status, found["kind"], found["apiVersion"]) == (
            200,
            "ExternalMetricValueList",
            "external.metrics.k8s.io/v1beta1",
        )
        (item,) = found["items"]
        assert (item["metricName"], item["metricLabels"], item["value"]) == (
            "capstan_desired_load",
            {"capstan.dev/model": "llama"},
            "2500m",
        )
        status, found = await world.ask(PATH)
        assert (status, [one["name"] for one in found["resources"]]) == (200, ["capstan_desired_load"])


async def test_what_is_not_known_is_no_number(tmp_path: Path) -> None:
    """An HPA that gets an error keeps the replicas; zero would take them away."""
    world = World(tmp_path)
    async with world.serving():
        world.demand = None
        assert (await world.ask(METRIC))[0] == 503
        world.model = None
        world.clock += SPEC_SECONDS + 1
        assert (await world.ask(METRIC))[0] == 503
        world.failure = Unavailable("no answer")
        assert (await world.ask(METRIC))[0] == 503
        assert (await world.ask(METRIC.replace("desired", "other")))[0] == 404
        assert (await world.ask(f"{PATH}/namespaces/team/capstan_desired_load"))[0] == 400


async def test_only_the_front_proxy_may_ask(tmp_path: Path) -> None:
    """No certificate, or one of the authority with another name, is refused."""
    world = World(tmp_path)
    async with world.serving():
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await world.ask(METRIC, shown=False)
    other = tmp_path / "other"
    other.mkdir()
    world = World(other, name="somebody")
    async with world.serving():
        status, found = await world.ask(METRIC)
        assert (status, found["message"]) == (403, "only the API server may ask")


async def test_a_cluster_without_a_front_proxy_is_told(tmp_path: Path) -> None:
    """There is nobody whom to trust."""
    world = World(tmp_path)
    world.kube.remove("ConfigMap", "extension-apiserver-authentication", "kube-system")
    world.put("ConfigMap", "kube-system", "extension-apiserver-authentication", {"client-ca-file": "x"})
    with pytest.raises(FrontProxyError, match="no front proxy"):
        await read_front_proxy(world.kube)


@pytest.mark.parametrize("names", ["{", "5", "null", '"front-proxy-client"'])
async def test_names_of_the_front_proxy_that_are_no_list_are_told(tmp_path: Path, names: str) -> None:
    """None is taken for one, and nothing else is raised."""
    world = World(tmp_path)
    data = {"requestheader-client-ca-file": "x", "requestheader-allowed-names": names}
    world.put("ConfigMap", "kube-system", "extension-apiserver-authentication", data)
    with pytest.raises(FrontProxyError, match="cannot be read"):
        await read_front_proxy(world.kube)


async def test_what_others_have_written_ends_nothing(tmp_path: Path) -> None:
    """Neither a front proxy's authority that cannot be loaded nor a port that is taken: what was served goes on, and
    it is served as soon as it can be."""
    world = World(tmp_path)
    good = (world.proxy / "ca.pem").read_text()

    def trust(authorities: str) -> None:
        data = {"requestheader-client-ca-file": authorities, "requestheader-allowed-names": ""}
        world.put("ConfigMap", "kube-system", "extension-apiserver-authentication", data)

    world.put("Secret", world.place.namespace, world.place.service, world.authority.data)
    api = MetricsApi(world.kube, world.place, world.loads)
    try:
        trust("no certificate")
        await api._look(world.place)
        trust(good)
        with socket.socket(socket.AF_INET) as taken:
            taken.bind(("0.0.0.0", world.place.port))
            taken.listen()
            await api._look(world.place)
        await api._look(world.place)
        assert (await world.ask(PATH))[0] == 200
        trust("no certificate")
        await api._look(world.place)
        assert (await world.ask(PATH))[0] == 200
    finally:
        await api._stop()


async def test_models_are_followed_while_somebody_asks(tmp_path: Path) -> None:
    """The spec is read again now and then, and who is not asked about is forgotten."""
    world = World(tmp_path)
    assert await world.loads.of(KEY) == 2.5
    assert await world.loads.of(KEY) == 2.5
    assert world.reads == 1
    world.demand = Demand(in_flight=16, ready=1)
    world.loads.step()
    assert await world.loads.of(KEY) == 0.5
    world.clock += SPEC_SECONDS + 1
    assert await world.loads.of(KEY) == 0.5
    assert world.reads == 2
    world.clock += ASKED_SECONDS + 1
    world.loads.step()
    assert len(world.loads) == 0


async def test_thousands_of_models_are_not_read_every_few_seconds(tmp_path: Path) -> None:
    """HPAs ask about each of them four times a minute; the API server is spared by reading each less often."""
    world = World(tmp_path)
    keys = [ObjectKey("team", f"m{number}") for number in range(1000)]
    for _ in range(13):
        for key in keys:
            assert await world.loads.of(key) == 2.5
        world.loads.step()
        world.clock += SPEC_SECONDS + 1
    assert world.reads <= len(keys) + 13 * (SPEC_SECONDS + 1) * MOST_READS


@pytest.mark.parametrize("spec", [{}, {"scaling": {"max": 3, "strategy": "External"}}])
async def test_a_model_that_nobody_scales_has_no_load(tmp_path: Path, spec: dict[str, Any]) -> None:
    """It is not followed either."""
    world = World(tmp_path)
    world.model = make_model(**spec)
    assert await world.loads.of(KEY) is None
    assert len(world.loads) == 0


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("capstan.dev/model=llama", "llama"),
        ("capstan.dev/model==llama", "llama"),
        ("", None),
        ("other=llama", None),
        ("capstan.dev/model=a,b=c", None),
        ("capstan.dev/model=", None),
    ],
)
def test_a_selector_names_one_model(selector: str, name: str | None) -> None:
    """Anything else is refused."""
    assert model_of(selector) == name


def test_an_authority_survives_its_secret() -> None:
    """What was written is read again; what is none, or does not fit together, is as none."""
    now = datetime.now(UTC)
    made, other = make_authority(now), make_authority(now)
    assert read_authority(json.loads(json.dumps(made.data))) == made
    assert read_authority({}) is None
    assert read_authority({"ca.crt": "eA==", "ca.key": "eA=="}) is None
    assert read_authority(Authority(made.certificates, other.key).data) is None


def test_an_authority_that_we_cannot_sign_by_is_none() -> None:
    """A key of RSA, as other programs make them: the leader makes one of its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert read_authority(Authority(certificate, private).data) is None


def test_an_authority_has_a_successor_in_time() -> None:
    """Both are trusted from then on, and certificates are the successor's."""
    now = datetime.now(UTC)
    made = make_authority(now)
    assert not is_due(made, now)
    later = now + timedelta(days=3650) - RENEW_AUTHORITY + timedelta(days=1)
    assert is_due(made, later)
    successor = make_authority(later, made)
    assert successor.certificates.count(b"BEGIN CERTIFICATE") == 2
    assert successor.certificates.endswith(made.certificates)
    certificate, key = issue(successor, "metrics.capstan-system.svc", later)
    assert certificate.startswith(b"-----BEGIN CERTIFICATE")
    assert b"PRIVATE KEY" in key
