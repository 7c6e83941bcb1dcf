"""A model that scales quickly, and a client that waits for it."""

import json
import urllib.error
import urllib.request

from support.wait import wait_until

API = "v1beta1.external.metrics.k8s.io"
QUICK = {
    "min": 0,
    "max": 3,
    "targets": {"inFlightPerReplica": 2},
    "idleSeconds": 10,
    "coldStartSeconds": 5,
    "scaleDownStabilizationSeconds": 5,
}


def ask(gateway: str, model: str, *, tokens: int = 5, patience: float = 120) -> str:
    """Ask for so many tokens, 10 ms each, and again where the gateway says to try later; give what came."""
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens,
        "min_tokens": tokens,
    }
    request = urllib.request.Request(  # noqa: S310
        f"{gateway}/v1/chat/completions", json.dumps(asked).encode(), {"content-type": "application/json"}
    )

    def answered() -> str:
        try:
            with urllib.request.urlopen(request, timeout=patience) as answer:  # noqa: S310
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            raise AssertionError(error.read()) from error

    return wait_until(answered, seconds=patience, every=0.5, what=f"an answer of {model}")
