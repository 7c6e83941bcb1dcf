"""The Secret with an authority, which the leader makes and every replica reads."""

from datetime import datetime

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.kube.errors import NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.metrics_api.authority import Authority, is_due, make_authority, read_authority
from capstan_operator.metrics_api.place import Place
from capstan_operator.names import METRICS_API_MANAGER
from capstan_operator.resources.api_resource import SECRETS


async def find_authority(kube: KubePort, place: Place) -> Authority | None:
    """Read the authority of a place; None where there is none that can be used. Raises KubeError."""
    try:
        secret = await kube.get(SECRETS, place.service, namespace=place.namespace)
    except NotFound:
        return None
    return read_authority(secret.get("data") or {})


async def ensure_authority(kube: KubePort, place: Place, now: datetime) -> tuple[Authority, bool]:
    """Give the authority of a place, and whether it was made just now: it, or its successor, where that is due. Raises
    KubeError."""
    found = await find_authority(kube, place)
    if found is not None and not is_due(found, now):
        return found, False
    made = make_authority(now, found)
    manifest = {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {
            "name": place.service,
            "namespace": place.namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
        },
        "type": "Opaque",
        "data": made.data,
    }
    await kube.apply(manifest, manager=METRICS_API_MANAGER)
    return made, True
