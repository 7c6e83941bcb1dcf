"""Pod templates, each built once for a generation of a model and remembered while it is in use."""

from collections import OrderedDict
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.pod import build_template
from capstan_operator.desired.snapshot import PodHash
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

MOST: Final = 512
"""Two batches of models: a template is some ten kilobytes."""

_Key = tuple[str, int, BuildSettings]


class Templates:
    """`build_template` that remembers. A template must be treated as immutable, as every manifest."""

    def __init__(self) -> None:
        self._built: OrderedDict[_Key, tuple[LLMModelSpec, tuple[Manifest, PodHash]]] = OrderedDict()

    def __call__(self, model: Model, spec: LLMModelSpec, settings: BuildSettings) -> tuple[Manifest, PodHash]:
        """Give the template of this generation of the model, with its hash."""
        key = (model.uid, model.generation, settings)
        known = self._built.get(key)
        # NB: a parser gives each generation one spec, and another one when the API server was restored from a backup.
        if known is None or known[0] is not spec:
            known = self._built[key] = spec, build_template(model, spec, settings)
            while len(self._built) > MOST:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        return known[1]
