"""YAML read by libyaml where PyYAML has it: the chart and the CRDs are long, and tests read them hundreds of times."""

from typing import Any, Final

import yaml

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(text: str) -> Any:
    """Give a document, as `yaml.safe_load` does."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader


def load_all(text: str) -> list[Any]:
    """Give all documents, as `yaml.safe_load_all` does."""
    return list(yaml.load_all(text, Loader=_LOADER))
