"""The messages of KEDA's external scaler protocol (externalscaler.proto), as classes.

They live in a pool of their own, so that another copy of KEDA's protocol in the same process does not clash with it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from headgate_operator.engines.compiled import FILE

_pool = descriptor_pool.DescriptorPool()
_pool.Add(descriptor_pb2.FileDescriptorProto.FromString(FILE))

SERVICE = "externalscaler.ExternalScaler"


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"externalscaler.{name}"))


ScaledObjectRef = _message("ScaledObjectRef")
IsActiveResponse = _message("IsActiveResponse")
MetricSpec = _message("MetricSpec")
GetMetricSpecResponse = _message("GetMetricSpecResponse")
GetMetricsRequest = _message("GetMetricsRequest")
MetricValue = _message("MetricValue")
GetMetricsResponse = _message("GetMetricsResponse")
