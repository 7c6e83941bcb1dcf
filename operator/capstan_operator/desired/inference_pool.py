"""What gateways of the Gateway API Inference Extension route by: an InferencePool of the pods of a model that serve."""

from collections.abc import Mapping

from capstan_contract.names import ENGINE_PORT
from capstan_operator.desired.naming import workload_name
from capstan_operator.resources.api_resource import INFERENCE_POOLS
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import MODEL_PLACE, BuildSettings


def build_inference_pool(name: str, selector: Mapping[str, str], settings: BuildSettings) -> Manifest:
    """Give the pool of a model's pods that `selector` selects, which is what its Service selects by.

    So pods of a canary are not in it: an endpoint picker goes by load, and a new revision would get whatever share of
    the requests that makes, not the one that the rollout says. A model without pods has an empty pool. The port is
    the engine's own, of which pickers read the metrics too.
    """
    spec = {
        "selector": {"matchLabels": dict(selector)},
        "targetPorts": [{"number": ENGINE_PORT}],
    }
    if settings.endpoint_picker:
        spec["endpointPickerRef"] = {
            "group": "",
            "kind": "Service",
            "name": settings.endpoint_picker.replace(MODEL_PLACE, name),
            "port": {"number": settings.endpoint_picker_port},
            "failureMode": settings.endpoint_picker_failure_mode,
        }
    return {
        "apiVersion": INFERENCE_POOLS.api_version,
        "kind": INFERENCE_POOLS.kind,
        "metadata": {"name": workload_name(name)},
        "spec": spec,
    }
