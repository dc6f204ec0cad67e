"""KEDA's external scaler, served over gRPC: what KEDA asks of a ScaledObject with an `external-push` trigger.

Only the operator that leads listens. KEDA connects to all addresses of the Service and uses those that answer, so it
finds the leader by itself. The calls are plain: they carry names and numbers, and no right comes with them.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from headgate_operator.engines import messages
from headgate_operator.engines.figures import BranchKey, FigureError, NoSuchBranchError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headgate_operator.engines.figures import Figures

METRIC = "headgate-workers"
"""The metric's name: workers that the branch should have, with a target of 1 a worker."""
STOP_SECONDS = 1.0
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two on one port would share its calls, and only one leads
    ("grpc.keepalive_time_ms", 60_000),  # streams are silent for hours: a peer that is gone is to be noticed
    ("grpc.http2.max_pings_without_data", 0),
)


@asynccontextmanager
async def scaler(figures: Figures, port: int) -> AsyncIterator[int]:
    """Serves `figures` on a port, 0 for any free one, and gives the port; raises OSError when it is taken.

    At the end streams are ended in order: KEDA comes back after two seconds then, and waits ever longer after errors.
    """
    server = aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_handlers(_Calls(figures)),))
    try:
        taken = server.add_insecure_port(f"[::]:{port}")
    except RuntimeError as error:
        raise OSError(f"scaler port: {port}: cannot be listened on: free it or choose another") from error
    await server.start()
    try:
        yield taken
    finally:
        figures.close()
        await server.stop(STOP_SECONDS)


class _Calls:
    """The calls of the protocol, each with its request and gRPC's context."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    async def is_active(self, request: Any, context: Any) -> Any:
        return messages.IsActiveResponse(result=await self._wanted(request, context) > 0)

    async def stream_is_active(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for active in self._figures.activity(await _branch(request, context)):
            yield messages.IsActiveResponse(result=active)

    async def metric_spec(self, request: Any, context: Any) -> Any:
        await _branch(request, context)
        spec = messages.MetricSpec(metricName=METRIC, targetSize=1, targetSizeFloat=1.0)
        return messages.GetMetricSpecResponse(metricSpecs=[spec])

    async def metrics(self, request: Any, context: Any) -> Any:
        wanted = await self._wanted(request.scaledObjectRef, context)
        value = messages.MetricValue(metricName=METRIC, metricValue=wanted, metricValueFloat=float(wanted))
        return messages.GetMetricsResponse(metricValues=[value])

    async def _wanted(self, reference: Any, context: Any) -> int:
        key = await _branch(reference, context)
        try:
            return self._figures.wanted(key)
        except NoSuchBranchError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except FigureError as error:
            # An error holds what is there; zero would stop it.
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        raise AssertionError  # abort raises


async def _branch(reference: Any, context: Any) -> BranchKey:
    """The branch that a ScaledObject is about, as its trigger's metadata names it."""
    metadata = dict(reference.scalerMetadata)
    for name in ("pipeline", "branch"):
        if not metadata.get(name):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"triggers[].metadata.{name}: not set in ScaledObject {reference.namespace}/{reference.name}: name the"
                f" {name} whose workers it scales",
            )
    return BranchKey(reference.namespace, metadata["pipeline"], metadata["branch"])


def _handlers(calls: _Calls) -> Any:
    def unary(call: Any, request: Any, response: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(call, request.FromString, response.SerializeToString)

    reference = messages.ScaledObjectRef
    return grpc.method_handlers_generic_handler(
        messages.SERVICE,
        {
            "IsActive": unary(calls.is_active, reference, messages.IsActiveResponse),
            "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                calls.stream_is_active, reference.FromString, messages.IsActiveResponse.SerializeToString
            ),
            "GetMetricSpec": unary(calls.metric_spec, reference, messages.GetMetricSpecResponse),
            "GetMetrics": unary(calls.metrics, messages.GetMetricsRequest, messages.GetMetricsResponse),
        },
    )
