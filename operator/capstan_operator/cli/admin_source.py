"""Where commands ask a gateway's admin pages: by its address, by way of the API server, or of `capstan up`.

--url            the address, with --key-file or CAPSTAN_ADMIN_KEY
--state-dir DIR  the gateway of `capstan up`: its address and its admin key are in there
else             the cluster of the kubeconfig: by the API server's proxy, any replica by the Service of the gateway's
                 metrics, or each pod behind it; with the key of the Secret that the operator has made, or the one that
                 is given
"""

import argparse
import asyncio
import base64
import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from capstan_operator.settings import BuildSettings

KEY_VARIABLE: Final = "CAPSTAN_ADMIN_KEY"
SECONDS: Final = 30
MOST_ANSWER_BYTES: Final = 256 * 1024 * 1024
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

    @property
    def message(self) -> str:
        """What the answer says of itself."""
        answer = object_of(self.body) or {}
        found = answer.get("error")
        said = found.get("message") if isinstance(found, dict) else answer.get("message")
        return str(said or self.reason)

    @property
    def told(self) -> str:
        """What is to be told to people."""
        hint = f" (give the admin key with --key-file or {KEY_VARIABLE})" if self.status == 401 else ""
        return f"the gateway refused ({self.status}): {self.message}{hint}"


@dataclass(frozen=True)
class Question:
    """What is asked of an admin page."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    """Posted as JSON; None: it is a GET."""

    @property
    def target(self) -> str:
        """The path with its query."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path


@dataclass(frozen=True)
class Told:
    """What one replica has answered."""

    replica: str
    """Name of its pod, or its address."""
    body: bytes = b""
    refused: Refused | None = None
    """It has answered with an error."""
    silence: str = ""
    """Why there is no answer."""


def object_of(body: bytes) -> dict[str, Any] | None:
    """Read an object of JSON; None where it is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def add_where(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say whom to ask."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", help="of a gateway's admin port, such as http://127.0.0.1:9090")
    where.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="the gateway of `capstan up` with this --state-dir"
    )
    where.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    parser.add_argument(
        "-n", "--namespace", default=os.environ.get("CAPSTAN_NAMESPACE") or BuildSettings().install_namespace,
        help="where Capstan is installed (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help=f"with the admin key (default: the variable {KEY_VARIABLE})"
    )


def fetch(arguments: argparse.Namespace, question: Question) -> bytes:
    """Give the answer of any replica; Refused for one that is an error, ValueError, OSError or OperatorError where
    there is none."""
    (told,) = _ask(arguments, question, each=False)
    if told.refused is not None:
        raise told.refused
    if told.silence:
        raise ValueError(told.silence)
    return told.body


def fetch_each(arguments: argparse.Namespace, question: Question) -> list[Told]:
    """Give what each replica says, by name; ValueError, OSError or OperatorError where they cannot be found. An address
    is one replica."""
    return _ask(arguments, question, each=True)


def _ask(arguments: argparse.Namespace, question: Question, *, each: bool) -> list[Told]:
    key = given_key(arguments.key_file)
    if arguments.url is not None:
        return [by_url(checked(arguments.url), question, key)]
    if arguments.state_dir is not None:
        return [by_url(address_of(arguments.state_dir), question, key or local_key(arguments.state_dir))]
    try:
        return asyncio.run(by_cluster(arguments, question, key, each=each))
    except ModuleNotFoundError as error:
        needed = f"to ask a cluster needs {error.name}: pip install '.[operator]' in a clone"
        raise ValueError(f"{needed}, {_ELSE}") from None


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


def by_url(url: str, question: Question, key: str) -> Told:
    """Ask an address."""
    headers = {"accept": "application/json"}
    data = None if question.body is None else json.dumps(question.body).encode()
    if data is not None:
        headers["content-type"] = "application/json"
    request = Request(f"{url}{question.target}", data, headers)  # noqa: S310
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 - http or https, as was looked at
            return Told(url, answer.read(MOST_ANSWER_BYTES))
    except HTTPError as error:
        return Told(url, refused=Refused(error.code, error.read(65536), error.reason))
    except URLError as error:
        return Told(url, silence=f"no answer from {urlsplit(url).hostname}: {error.reason}")


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


async def by_cluster(arguments: argparse.Namespace, question: Question, key: str, *, each: bool) -> list[Told]:
    """Ask one gateway of a cluster, or `each`."""
    # NB: imported only now: to ask an address needs nothing of a cluster's.
    from capstan_operator.kube.auth import load_configuration
    from capstan_operator.kube.client import KubeClient

    namespace = arguments.namespace
    load = functools.partial(load_configuration, arguments.context)
    kube = KubeClient(await load(), reload=load, user_agent="capstan-cli")
    try:
        service = await _service(kube, namespace)
        key = key or await _cluster_key(kube, namespace, service)
        whom = await _pods(kube, namespace, service) if each else {service: f"services/{service}:{_PORT}"}
        asked = (_through(kube, name, of, question, namespace=namespace, key=key) for name, of in whom.items())
        return list(await asyncio.gather(*asked))
    finally:
        await kube.close()


async def _through(kube: Any, name: str, of: str, question: Question, *, namespace: str, key: str) -> Told:
    # NB: the API server keeps `Authorization` for itself, and passes this one on.
    headers = {"x-api-key": key}
    try:
        status, body = await kube.ask_through(
            of, question.target, namespace=namespace, headers=headers, body=question.body
        )
    except OperatorError as error:
        return Told(name, silence=str(error))
    if status == 403 and b'"Status"' in body:
        verb, kind = "get" if question.body is None else "create", of.partition("/")[0]
        raise ValueError(f"you may not `{verb}` {kind}/proxy in the namespace {namespace}: ask for that, {_ELSE}")
    return Told(name, body) if status == 200 else Told(name, refused=Refused(status, body))


async def _pods(kube: Any, namespace: str, service: str) -> dict[str, str]:
    """Give where each ready pod behind a Service is asked, by its name."""
    from capstan_operator.resources.api_resource import ENDPOINT_SLICES

    found = await kube.list(
        ENDPOINT_SLICES, namespace=namespace, label_selector=f"kubernetes.io/service-name={service}"
    )
    pods = {}
    for item in found.items:
        ports = [port.get("port") for port in item.get("ports") or () if port.get("name") == _PORT]
        for endpoint in item.get("endpoints") or () if ports else ():
            name = (endpoint.get("targetRef") or {}).get("name")
            if name and (endpoint.get("conditions") or {}).get("ready") is not False:
                pods[str(name)] = f"pods/{name}:{ports[0]}"
    if not pods:
        raise ValueError(f"no gateway replica is ready in the namespace {namespace}")
    return dict(sorted(pods.items()))


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
