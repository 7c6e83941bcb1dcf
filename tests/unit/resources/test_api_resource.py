"""Where an object is found in the API."""

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.resources.api_resource import DEPLOYMENTS, NODES


def test_paths_follow_the_api() -> None:
    """Core and grouped, cluster-wide and namespaced resources are addressed as Kubernetes addresses them."""
    assert NODES.path(name="n") == "/api/v1/nodes/n"
    assert DEPLOYMENTS.path() == "/apis/apps/v1/deployments"
    assert LLM_MODELS.path("ns", "m", "status") == "/apis/capstan.dev/v1alpha1/namespaces/ns/llmmodels/m/status"
