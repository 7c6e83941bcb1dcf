"""Writing a status beside a CRD of an older release: the API server refuses all of it for one field that it lacks."""

import re
from typing import Final

from capstan_operator.kube.errors import KubeError
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.resource import Manifest

_UNDECLARED: Final = re.compile(r"\.status\.([A-Za-z0-9]+)[^\s:]*: field not declared in schema")


def undeclared_field(message: str) -> str | None:
    """Give the field of the status that the schema lacks, by what the API server says; None for another error."""
    found = _UNDECLARED.search(message)
    return None if found is None else found[1]


async def apply_declared(kube: KubePort, manifest: Manifest) -> Manifest:
    """Write a status without the fields that the CRD in the cluster does not have; give the object as it then is.
    Raises KubeError for all else."""
    status = dict(manifest["status"])
    while True:
        try:
            return await kube.apply_status({**manifest, "status": status})
        except KubeError as error:
            field = undeclared_field(str(error))
            if field not in status:
                raise
            del status[field]
