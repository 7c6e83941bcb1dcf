"""The kind InferencePool of the Gateway API Inference Extension, for tests."""

from typing import Final

import yaml

from capstan_operator.resources.resource import Manifest
from support.needs import ROOT

CRD_NAME: Final = "inferencepools.inference.networking.k8s.io"


def pool_crd(*, needs_picker: bool = False) -> Manifest:
    """Give the CRD; `needs_picker`: as the releases before 1.5 declare it, where a pool must name a picker."""
    crd: Manifest = yaml.safe_load((ROOT / "tests/data/inference/crd.yaml").read_text())
    if needs_picker:
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["required"].append("endpointPickerRef")
    return crd
