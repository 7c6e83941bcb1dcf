"""What KEDA asks an external scaler, and what that answers: `externalscaler.proto` of KEDA 2, package externalscaler.

The messages are declared here and not generated: they are few and small, and what protoc writes is bound to the release
of protobuf that it came with. Only this module knows protobuf.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

PACKAGE: Final = "externalscaler"
SERVICE: Final = f"{PACKAGE}.ExternalScaler"

_FIELD = descriptor_pb2.FieldDescriptorProto
_STRING, _BOOL, _INT64, _DOUBLE, _MESSAGE = (
    _FIELD.TYPE_STRING,
    _FIELD.TYPE_BOOL,
    _FIELD.TYPE_INT64,
    _FIELD.TYPE_DOUBLE,
    _FIELD.TYPE_MESSAGE,
)


def _declare() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    def field(of: Any, name: str, number: int, kind: int, type_name: str = "", *, many: bool = False) -> None:
        label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
        full = f".{PACKAGE}.{type_name}" if type_name else None
        of.field.add(name=name, number=number, type=kind, label=label, type_name=full)

    reference = message("ScaledObjectRef")
    field(reference, "name", 1, _STRING)
    field(reference, "namespace", 2, _STRING)
    # A map is a list of entries, of a type of its own.
    field(reference, "scalerMetadata", 3, _MESSAGE, "ScaledObjectRef.ScalerMetadataEntry", many=True)
    entry = reference.nested_type.add(name="ScalerMetadataEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, _STRING)
    field(entry, "value", 2, _STRING)

    field(message("IsActiveResponse"), "result", 1, _BOOL)

    spec = message("MetricSpec")
    field(spec, "metricName", 1, _STRING)
    field(spec, "targetSize", 2, _INT64)
    field(spec, "targetSizeFloat", 3, _DOUBLE)
    field(message("GetMetricSpecResponse"), "metricSpecs", 1, _MESSAGE, "MetricSpec", many=True)

    request = message("GetMetricsRequest")
    field(request, "scaledObjectRef", 1, _MESSAGE, "ScaledObjectRef")
    field(request, "metricName", 2, _STRING)

    value = message("MetricValue")
    field(value, "metricName", 1, _STRING)
    field(value, "metricValue", 2, _INT64)
    field(value, "metricValueFloat", 3, _DOUBLE)
    field(message("GetMetricsResponse"), "metricValues", 1, _MESSAGE, "MetricValue", many=True)
    return file


# NB: a pool of its own, so that nobody else's file of this name is in the way.
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_declare())


def _class_of(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


ScaledObjectRef: Final = _class_of("ScaledObjectRef")
"""Of which ScaledObject KEDA speaks, with the metadata of its trigger."""
IsActiveResponse: Final = _class_of("IsActiveResponse")
MetricSpec: Final = _class_of("MetricSpec")
"""A metric, and how much of it is meant for each replica. A release of KEDA that does not know the float reads the
other."""
GetMetricSpecResponse: Final = _class_of("GetMetricSpecResponse")
GetMetricsRequest: Final = _class_of("GetMetricsRequest")
MetricValue: Final = _class_of("MetricValue")
GetMetricsResponse: Final = _class_of("GetMetricsResponse")
