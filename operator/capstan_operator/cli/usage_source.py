"""Where `capstan usage` asks: a gateway's admin port by its address, by way of the API server, or `capstan up`.

--url            the address, with --key-file or CAPSTAN_ADMIN_KEY
--state-dir DIR  the gateway of `capstan up`: its address and its admin key are in there
else             the cluster of the kubeconfig: the Service of the gateway's metrics by the API server's proxy, with the
                 key of the Secret that the operator has made, or the one that is given
"""

import argparse
import asyncio
import base64
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from capstan_contract.admin_keys import LEAST_KEY_BYTES, key_words
from capstan_contract.names import ADMIN_KEY_FIELD, COMPONENT_LABEL
from capstan_operator.errors import OperatorError
from capstan_operator.local.key_file import ADMIN
from capstan_operator.local.statedir import ADDRESS, KEYS

KEY_VARIABLE: Final = "CAPSTAN_ADMIN_KEY"
SECONDS: Final = 30
MOST_ANSWER_BYTES: Final = 256 * 1024 * 1024
PATH: Final = "/internal/usage"
_SERVICE: Final = "gateway-metrics"
_PORT: Final = "metrics"
_ELSE: Final = "or forward a port (kubectl port-forward deployment/capstan-gateway 9090) and give --url"


class Refused(ValueError):
    """What was asked has answered with an error."""

    def __init__(self, status: int, body: bytes, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.body = body
        self.reason = reason


def fetch(arguments: argparse.Namespace, query: Mapping[str, str]) -> bytes:
    """Give the answer; Refused for one that is an error, ValueError, OSError or OperatorError where there is none."""
    key = given_key(arguments.key_file)
    if arguments.url is not None:
        return by_url(checked(arguments.url), query, key)
    if arguments.state_dir is not None:
        return by_url(address_of(arguments.state_dir), query, key or local_key(arguments.state_dir))
    try:
        return asyncio.run(by_cluster(arguments, query, key))
    except ModuleNotFoundError as error:
        raise ValueError(f"to ask a cluster needs {error.name}: pip install 'capstan[operator]', {_ELSE}") from None


def given_key(file: Path | None) -> str:
    """Give the key of the file or the variable: the first one of two; "" where there is no text. ValueError for a text
    without a key."""
    if file is not None:
        return first_key(file.read_bytes(), str(file))
    return first_key(os.environ.get(KEY_VARIABLE, "").encode("utf-8", "surrogateescape"), KEY_VARIABLE)


def first_key(text: bytes, where: str) -> str:
    """Give the first word that gateways take for a key; "" of an empty text, ValueError of one that has none."""
    keys = key_words(text)
    if not keys and text.strip():
        raise ValueError(f"no admin key in {where}: one has {LEAST_KEY_BYTES} printable characters of ASCII or more")
    return keys[0].decode() if keys else ""


def checked(url: str) -> str:
    """Give the address of an admin port; ValueError for what is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"--url must be http:// or https://, not {url!r}")
    path = parts.path.rstrip("/")
    if path == "/v1" or path.startswith("/v1/"):
        raise ValueError(
            f"--url {url} is where the API's routes are: leave {path} out, and give the admin port where there is one"
            " (9090 in a cluster)"
        )
    return url.rstrip("/")


def by_url(url: str, query: Mapping[str, str], key: str) -> bytes:
    """Ask an address."""
    request = Request(f"{url}{PATH}?{urlencode(query)}", headers={"accept": "application/json"})  # noqa: S310
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - http or https, as was looked at
            body: bytes = answer.read(MOST_ANSWER_BYTES)
            return body
    except HTTPError as error:
        raise Refused(error.code, error.read(65536), error.reason) from None
    except URLError as error:
        raise ValueError(f"no answer from {urlsplit(url).hostname}: {error.reason}") from None


def address_of(state: Path) -> str:
    """Give where the gateway of this state directory is; ValueError where none is running."""
    try:
        return checked((state / ADDRESS).read_text().strip())
    except OSError:
        raise ValueError(f"no `capstan up` is running with --state-dir {state}") from None


def local_key(state: Path) -> str:
    """Give the admin key of a state directory; "" where it has none."""
    try:
        text = (state / KEYS / ADMIN).read_bytes()
    except FileNotFoundError:
        return ""
    return first_key(text, str(state / KEYS / ADMIN))


async def by_cluster(arguments: argparse.Namespace, query: Mapping[str, str], key: str) -> bytes:
    """Ask a gateway of a cluster."""
    # NB: imported only now: to ask an address needs nothing of a cluster's.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    load = functools.partial(load_configuration, arguments.context)
    kube = KubeClient(await load(), reload=load, user_agent="capstan-cli")
    try:
        service = await _service(kube, arguments.namespace)
        key = key or await _cluster_key(kube, arguments.namespace, service)
        # NB: the API server keeps `Authorization` for itself, and passes this one on.
        status, body = await kube.get_through(
            service, _PORT, f"{PATH}?{urlencode(query)}", namespace=arguments.namespace, headers={"x-api-key": key}
        )
    finally:
        await kube.close()
    if status == 403 and b'"Status"' in body:
        raise ValueError(
            f"you may not `get` services/proxy in the namespace {arguments.namespace}: ask for that, {_ELSE}"
        )
    if status != 200:
        raise Refused(status, body)
    return body


async def _service(kube: Any, namespace: str) -> str:
    from capstan_operator.resources.api_resource import SERVICES

    found = await kube.list(SERVICES, namespace=namespace, label_selector=f"{COMPONENT_LABEL}={_SERVICE}")
    names = sorted(str(one["metadata"]["name"]) for one in found.items)
    if not names:
        raise ValueError(
            f"the namespace {namespace} has no gateway of Capstan's: say --namespace, --url or --state-dir"
        )
    return names[0]


async def _cluster_key(kube: Any, namespace: str, service: str) -> str:
    """Give the key in the Secret that belongs to the Service of the gateway's metrics."""
    from capstan_operator.resources.api_resource import SECRETS

    name = f"{service.removesuffix(_SERVICE)}gateway-admin"
    try:
        secret = await kube.get(SECRETS, name, namespace=namespace)
    except OperatorError as error:
        raise ValueError(f"no admin key: {error}; give it with --key-file or {KEY_VARIABLE}") from None
    return first_key(base64.b64decode((secret.get("data") or {}).get(ADMIN_KEY_FIELD) or ""), f"the Secret {name}")
