"""The questions of KEDA, answered by gRPC and TLS: with the numbers and decisions that HPAs and the operator go by.

Only this module knows gRPC.
"""

import os
from collections.abc import AsyncIterator, Awaitable
from math import ceil
from typing import Any, Final

from capstan_operator.desired.scaled_object import MODEL_FIELD
from capstan_operator.keda.messages import (
    SERVICE,
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    MetricSpec,
    MetricValue,
    ScaledObjectRef,
)
from capstan_operator.kube.errors import KubeError
from capstan_operator.metrics_api.loads import Loads
from capstan_operator.names import LOAD_METRIC
from capstan_operator.resources.resource import ObjectKey

# NB: its core writes lines of its own to stderr, one for each handshake that fails, whoever has begun it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

MOST_CALLS: Final = 16384
"""Calls at a time, streams included: KEDA has one of these for each ScaledObject, and two for a moment."""
MOST_BYTES: Final = 64 * 1024
"""Of a question: a name, and the metadata of a trigger."""
STOP_SECONDS: Final = 1.0
_UNSCALED: Final = "there is no such model, or nobody scales it"
_UNKNOWN: Final = "it is not known what is asked of the model"


class Server:
    """Serves until it is stopped."""

    def __init__(self, server: Any, certificate: tuple[bytes, bytes]) -> None:
        self._server = server
        self.certificate = certificate
        """What is shown to those who connect from now on, and its key, both PEM."""

    async def stop(self) -> None:
        """End it; streams have a moment to end."""
        await self._server.stop(STOP_SECONDS)


async def serve(loads: Loads, port: int, certificate: tuple[bytes, bytes]) -> Server:
    """Answer at a port. Raises RuntimeError when it is taken."""
    served = grpc.aio.server(
        maximum_concurrent_rpcs=MOST_CALLS,
        options=[
            ("grpc.max_receive_message_length", MOST_BYTES),
            ("grpc.so_reuseport", 0),
            # A caller that is gone without a word leaves no stream behind.
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ],
    )
    server = Server(served, certificate)
    served.add_generic_rpc_handlers((build_handler(loads),))
    # NB: it is asked at each handshake, so that another certificate ends no stream.
    credentials = grpc.dynamic_ssl_server_credentials(_shown(certificate), lambda: _shown(server.certificate))
    served.add_secure_port(f"[::]:{port}", credentials)  # that is every address, of both families
    await served.start()
    return server


def _shown(certificate: tuple[bytes, bytes]) -> Any:
    return grpc.ssl_server_certificate_configuration([(certificate[1], certificate[0])])


def build_handler(loads: Loads) -> grpc.GenericRpcHandler:
    """Give what answers the four questions of KEDA."""

    async def is_active(asked: Any, context: Any) -> Any:
        return IsActiveResponse(result=await _answered(loads.is_active(await _key_of(asked, context)), context))

    async def stream_is_active(asked: Any, context: Any) -> AsyncIterator[Any]:
        key = await _key_of(asked, context)
        try:
            async for active in loads.watch(key):
                yield IsActiveResponse(result=active)
        except KubeError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        await context.abort(grpc.StatusCode.NOT_FOUND, _UNSCALED)

    async def get_metric_spec(asked: Any, context: Any) -> Any:
        await _key_of(asked, context)
        return GetMetricSpecResponse(
            metricSpecs=[MetricSpec(metricName=LOAD_METRIC, targetSize=1, targetSizeFloat=1.0)]
        )

    async def get_metrics(asked: Any, context: Any) -> Any:
        if asked.metricName != LOAD_METRIC:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no such metric: there is {LOAD_METRIC}")
        key = await _key_of(asked.scaledObjectRef, context)
        load = await _answered(loads.of(key), context, _UNKNOWN)
        value = MetricValue(metricName=LOAD_METRIC, metricValue=ceil(load), metricValueFloat=round(load, 3))
        return GetMetricsResponse(metricValues=[value])

    def unary(answer: Any, question: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(answer, question.FromString, _serialize)

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "IsActive": unary(is_active, ScaledObjectRef),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                stream_is_active, ScaledObjectRef.FromString, _serialize
            ),
            "GetMetricSpec": unary(get_metric_spec, ScaledObjectRef),
            "GetMetrics": unary(get_metrics, GetMetricsRequest),
        },
    )


def _serialize(message: Any) -> bytes:
    return bytes(message.SerializeToString())


async def _key_of(asked: Any, context: Any) -> ObjectKey:
    """Give the model that a question is about; a question about none is refused."""
    name = asked.scalerMetadata.get(MODEL_FIELD, "")
    if not name or not asked.namespace:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"the metadata of the trigger must name an LLMModel as `{MODEL_FIELD}`"
        )
    return ObjectKey(asked.namespace, name)


async def _answered(answer: Awaitable[Any], context: Any, unknown: str = "") -> Any:
    """Give an answer that there is. KEDA, and the HPA that it makes, change nothing where there is none."""
    try:
        found = await answer
    except KubeError as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
    if found is None:
        code = grpc.StatusCode.UNAVAILABLE if unknown else grpc.StatusCode.NOT_FOUND
        await context.abort(code, unknown or _UNSCALED)
    return found
