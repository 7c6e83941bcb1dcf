"""KEDA's part, played by a test: its kinds, and the questions that it asks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio
import yaml

from capstan_operator.keda.messages import (
    SERVICE,
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    ScaledObjectRef,
)
from capstan_operator.resources.resource import Manifest
from support.needs import ROOT

KINDS: Final = ("scaledobjects.keda.sh", "triggerauthentications.keda.sh")


def keda_crds() -> list[Manifest]:
    """Give the CRDs."""
    return list(yaml.safe_load_all((ROOT / "tests/data/keda/crds.yaml").read_text()))


class Asker:
    """Asks as KEDA does of one ScaledObject, and reads no more of it than KEDA does."""

    def __init__(self, channel: Any, scaled_object: Manifest) -> None:
        metadata, (trigger,) = scaled_object["metadata"], scaled_object["spec"]["triggers"]
        self._channel = channel
        self._reference = ScaledObjectRef(
            name=metadata["name"], namespace=metadata["namespace"], scalerMetadata=trigger["metadata"]
        )

    async def is_active(self) -> bool:
        """Ask whether there should be any replica."""
        return bool((await self._ask("IsActive", self._reference, IsActiveResponse)).result)

    async def load(self) -> float:
        """Ask for the metric, by the name that it is said to have; give it for one replica's worth."""
        (spec,) = (await self._ask("GetMetricSpec", self._reference, GetMetricSpecResponse)).metricSpecs
        asked = GetMetricsRequest(scaledObjectRef=self._reference, metricName=spec.metricName)
        (value,) = (await self._ask("GetMetrics", asked, GetMetricsResponse)).metricValues
        return float(value.metricValueFloat / spec.targetSizeFloat)

    def stream(self) -> Any:
        """Have changes told: `await stream.read()` gives one."""
        call = self._channel.unary_stream(
            f"/{SERVICE}/StreamIsActive", response_deserializer=IsActiveResponse.FromString
        )
        return call(self._reference.SerializeToString())

    async def _ask(self, method: str, question: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(f"/{SERVICE}/{method}", response_deserializer=answer.FromString)
        try:
            return await call(question.SerializeToString(), timeout=30)
        except grpc.aio.AioRpcError as error:
            # KEDA asks again where there is no answer yet, and so does who waits for one.
            raise AssertionError(f"{method}: {error.code()}: {error.details()}") from error


@asynccontextmanager
async def asking(scaled_object: Manifest, authorities: str, address: str) -> AsyncIterator[Asker]:
    """Connect to an address as if it were the one that the ScaledObject names, and trust who signs for that."""
    (trigger,) = scaled_object["spec"]["triggers"]
    host = trigger["metadata"]["scalerAddress"].rpartition(":")[0]
    credentials = grpc.ssl_channel_credentials(authorities.encode())
    options = [("grpc.ssl_target_name_override", host)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield Asker(channel, scaled_object)
