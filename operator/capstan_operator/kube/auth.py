"""Who the operator is to the API server: a kubeconfig, or the pod's service account, read afresh when it is refused.

Service account tokens rotate while the process runs. The token file is read again every minute, and at once when the
API server answers 401; a kubeconfig with a `tokenFile` or a credential plugin is loaded again on a 401.
"""

import os
from typing import Any

import yaml
from kubernetes.aio import client as api
from kubernetes.aio import config as loader

from capstan_operator.kube.errors import Unauthorized

TOKEN_KEY = "BearerToken"  # noqa: S105  # the name of the slot, not a token


async def load_configuration(context: str | None = None) -> Any:
    """Load KUBECONFIG if set, else the pod's service account, else ~/.kube/config, into a client Configuration.

    With a `context`, it is that of the kubeconfig, and no service account is looked for.

    Raises Unauthorized when there is none.
    """
    configuration = api.Configuration()
    try:
        if not context and not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"):
            loader.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            # NB: the client's own default was read from the environment when it was imported.
            file = os.environ.get("KUBECONFIG") or None
            await loader.load_kube_config(  # type: ignore[no-untyped-call]
                file, context=context, client_configuration=configuration, persist_config=False
            )
    except loader.ConfigException as error:
        raise Unauthorized(f"no way to reach a Kubernetes API server: {error}") from error
    except (TypeError, AttributeError, LookupError, ValueError, yaml.YAMLError) as error:
        # NB: what the client meets in a file that is empty, or is no kubeconfig.
        raise Unauthorized("no way to reach a Kubernetes API server: the kubeconfig is none") from error
    return configuration


async def authorization(configuration: Any) -> str | None:
    """Give the Authorization header, as fresh as the configuration can make it; None with a client certificate."""
    header: str | None = await configuration.get_api_key_with_prefix(TOKEN_KEY)
    return header


def adopt_token(configuration: Any, fresh: Any) -> bool:
    """Take the token of a configuration loaded just now; tell whether it is another one."""
    old, new = configuration.api_key.get(TOKEN_KEY), fresh.api_key.get(TOKEN_KEY)
    if new is None or old == new:
        return False
    configuration.api_key[TOKEN_KEY] = new
    configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
    return True


def split_header(header: str | None) -> tuple[str | None, str | None]:
    """Give scheme and token of an Authorization header."""
    if not header:
        return None, None
    scheme, _, token = header.partition(" ")
    return (scheme, token) if token else (None, scheme)
