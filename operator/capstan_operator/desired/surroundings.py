"""What is around a policy in a config: what it may say of models is judged by that."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from capstan_contract.config import ModelEntry
from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class Surroundings:
    """The models of a config."""

    served: Mapping[ObjectKey, ModelEntry]
    """Those that have an entry."""
    models: Collection[ObjectKey]
    """All that were listed."""
    on: Collection[ObjectKey] = ()
    """Those that the policy is in force on, by name."""

    def lacks(self, model: ObjectKey, *, task: str | None = None) -> str | None:
        """Say why a model, of this task if one is given, cannot be asked; None where it can."""
        entry = self.served.get(model)
        if entry is None:
            return f"the LLMModel '{model.name}' is not {'served' if model in self.models else 'there'}"
        if task is not None and entry.task != task:
            return f"the LLMModel '{model.name}' is of the task {entry.task}, not {task}"
        return None
