import argparse
from typing import Any

import pytest

from capstan_worker.engine.vllm import publishing, refuse_other_servers
from capstan_worker.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["m", "--port", "8000"], "give --port before the `--`"),
        (["m", "--host=0.0.0.0"], "give --host before the `--`"),
        (["m", "--api_server_count=2"], "--api-server-count is not possible"),
        (["m", "--ssl-ca-certs", "/x"], "--ssl-ca-certs is not possible"),
        (["m", "--ssl_keyfile=/x"], "--ssl-keyfile is not possible"),
        (["m", "--uds", "/x"], "--uds is not possible"),
    ],
)
def test_another_kind_of_server_is_refused_in_every_spelling(arguments: list[str], says: str) -> None:
    """What asks for another server than the worker, or says again where to listen, is refused before vLLM loads."""
    with pytest.raises(UsageError, match=says):
        refuse_other_servers(arguments)


def test_the_rest_is_for_vllm() -> None:
    """Everything else is left to vLLM's own parser."""
    refuse_other_servers(["m", "--served-model-name", "x", "--max-model-len", "1", "--seed=1"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kv_events_config": object()}, "--kv-events-config"),
        ({"data_parallel_size": 2}, "--data-parallel-size to be 1"),
    ],
)
def test_events_are_published_to_the_worker_alone(given: dict[str, Any], says: str) -> None:
    """Beside a config of events of the user's own, or of several ranks, the worker would not know what is held; without
    the flag neither matters."""
    args = argparse.Namespace(**{"kv_events_config": None, "data_parallel_size": 1, **given})
    with pytest.raises(UsageError, match=says), publishing(args, wanted=True):
        pass
    with publishing(args, wanted=False) as published:
        assert published is None
