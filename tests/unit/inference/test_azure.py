"""Which paths are Azure's, and which routes they stand for."""

import pytest

from capstan_gateway.inference.azure import ordinary_path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/openai/deployments/m/chat/completions", (b"/v1/chat/completions", "m")),
        (b"/openai/deployments/m/completions", (b"/v1/completions", "m")),
        (b"/openai/deployments/m/embeddings", (b"/v1/embeddings", "m")),
        (b"/openai/deployments/m/responses", (b"/v1/responses", "m")),
        (b"/openai/deployments/org%2Fm/completions", (b"/v1/completions", "org/m")),
        (b"/openai/deployments/org/m/chat/completions", (b"/v1/chat/completions", "org/m")),
        (b"/openai/deployments/%ff/completions", (b"/v1/completions", "\ufffd")),
        (b"/openai/deployments//completions", None),
        (b"/openai/deployments/completions", None),
        (b"/openai/deployments/m/images/generations", None),
        (b"/openai/deployments/m", None),
        (b"/openai/responses", (b"/v1/responses", "")),
        (b"/openai/responses/resp_1/input_items", (b"/v1/responses/resp_1/input_items", "")),
        (b"/openai/models", (b"/v1/models", "")),
        (b"/openai/models/org%2Fm", (b"/v1/models/org%2Fm", "")),
        (b"/openai/v1/chat/completions", (b"/v1/chat/completions", "")),
        (b"/openai/v1/embeddings", (b"/v1/embeddings", "")),
        (b"/openai/v1/models", (b"/v1/models", "")),
        (b"/openai/v1/messages", None),
        (b"/openai/chat/completions", None),
        (b"/openai/internal/config", None),
        (b"/openai/", None),
        (b"/openai", None),
        (b"/v1/chat/completions", None),
        (b"", None),
    ],
)
def test_paths(path: bytes, found: tuple[bytes, str] | None) -> None:
    """A deployment's path names its model; nothing else of the gateway is below Azure's root."""
    assert ordinary_path(path) == found
