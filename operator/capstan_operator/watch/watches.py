"""What the watches do: wake keys. One line each, no decision, no I/O.

The watch is a hint; the list is the truth. A wake-up that is lost is made up by the resync, and one too many costs a
comparison.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from capstan_contract.names import COMPONENT_LABEL, MODEL_LABEL
from capstan_operator.desired.config_maps import CONFIG_COMPONENT
from capstan_operator.desired.prices import PRICES_COMPONENT
from capstan_operator.kube.versions import Versions
from capstan_operator.metrics import Metrics
from capstan_operator.resources.api_resource import ApiResource
from capstan_operator.resources.resource import Manifest, ObjectKey, PolicyKey

GATEWAY_CONFIG: Final = "gateway-config"
"""The singleton key of the config lane."""


class Echoes:
    """Recognises our own writes when the watch brings them back: they carry no news.

    An event with exactly the resourceVersion that a write has returned is that write. Bounded: an echo that is
    forgotten too early is taken for news, which is harmless.
    """

    def __init__(self, *, most: int = 8192, clock: Callable[[], float] = monotonic) -> None:
        self._most = most
        self._clock = clock
        self._written: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def note(self, kind: ApiResource, written: Manifest) -> None:
        """Remember a write."""
        metadata = written.get("metadata") or {}
        self._written[kind.plural, metadata.get("uid", ""), metadata.get("resourceVersion", "")] = self._clock()
        while len(self._written) > self._most:
            self._written.popitem(last=False)

    def lag(self, kind: ApiResource, seen: Mapping[str, Any]) -> float | None:
        """Give the seconds since the write that this object is the echo of; None for somebody else's change."""
        metadata = seen.get("metadata") or {}
        key = (kind.plural, metadata.get("uid", ""), metadata.get("resourceVersion", ""))
        written = self._written.pop(key, None)
        return None if written is None else self._clock() - written


IsCompiled = Callable[[ObjectKey, str, int, Mapping[str, str]], bool]
"""Whether the config was compiled from this generation of a model, with these labels."""


class Watches:
    """Turns watch events into wake-ups."""

    def __init__(
        self,
        *,
        wake_model: Callable[[ObjectKey], None],
        wake_config: Callable[[], None],
        is_compiled: IsCompiled,
        rouse_acknowledger: Callable[[], None],
        echoes: Echoes,
        versions: Versions,
        metrics: Metrics,
        saw_key: Callable[[str | None, Mapping[str, Any]], bool] = lambda *_: False,
        wake_keys: Callable[[bool], None] = lambda _: None,
        is_policy_compiled: Callable[[PolicyKey, str, int], bool] = lambda *_: False,
        wake_policy: Callable[[PolicyKey], None] = lambda _: None,
        saw_profiles: Callable[[], None] = lambda: None,
    ) -> None:
        self._saw_profiles = saw_profiles
        self._is_policy_compiled = is_policy_compiled
        self._wake_policy = wake_policy
        self._saw_key = saw_key
        self._wake_keys = wake_keys
        self._wake_model = wake_model
        self._wake_config = wake_config
        self._is_compiled = is_compiled
        self._rouse_acknowledger = rouse_acknowledger
        self._echoes = echoes
        self._versions = versions
        self._metrics = metrics

    def model(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """An LLMModel came, changed or went: the config first, it is the fast lane.

        A generation that the config was compiled from already cannot change it: somebody's write to the status, or an
        object that kopf lists after our own list.
        """
        if not self._is_news(kind, event):
            return
        metadata = event["object"]["metadata"]
        gone = event["type"] == "DELETED" or "deletionTimestamp" in metadata
        labels = metadata.get("labels") or {}
        if gone or not self._is_compiled(_key(metadata), metadata["uid"], metadata["generation"], labels):
            self._wake_config()
        self._wake_model(_key(metadata))

    def policy(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """A policy came, changed or went: the config, and then its status."""
        if not self._is_news(kind, event):
            return
        metadata = event["object"]["metadata"]
        key = PolicyKey(kind.kind, *_key(metadata))
        gone = event["type"] == "DELETED" or "deletionTimestamp" in metadata
        if gone or not self._is_policy_compiled(key, metadata["uid"], metadata["generation"]):
            self._wake_config()
        self._wake_policy(key)

    def child(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """Something that carries our labels came, changed or went."""
        metadata = event["object"]["metadata"]
        labels = metadata.get("labels") or {}
        if not self._is_news(kind, event):
            return
        if MODEL_LABEL in labels:
            self._wake_model(ObjectKey(metadata["namespace"], labels[MODEL_LABEL]))
        elif labels.get(COMPONENT_LABEL) in (CONFIG_COMPONENT, PRICES_COMPONENT):
            self._wake_config()

    def api_key(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """A Secret that is an API key of the gateway came, changed or went."""
        if self._is_news(kind, event):
            self._wake_keys(self._saw_key(event["type"], event["object"]["metadata"]))

    def profiles(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """A ConfigMap with profiles came, changed or went."""
        if self._is_news(kind, event):
            self._saw_profiles()

    def gateway(self, kind: ApiResource, event: Mapping[str, Any]) -> None:
        """The gateway's replicas changed."""
        if self._is_news(kind, event):
            self._rouse_acknowledger()

    def _is_news(self, kind: ApiResource, event: Mapping[str, Any]) -> bool:
        # NB: an object of an initial list, or of one after an outage, has no type. It may be our own last write, and is
        # news all the same: what was missed before it cannot be known.
        lag = self._echoes.lag(kind, event["object"]) if event["type"] in ("ADDED", "MODIFIED") else None
        self._metrics.watch_events.labels(kind.plural, str(lag is not None).lower()).inc()
        if lag is not None:
            self._metrics.watch_lag.labels(kind.plural).observe(lag)
        else:
            self._versions.saw(kind, event["object"])  # whoever is woken by this must not read anything older
        return lag is None


def _key(metadata: Mapping[str, Any]) -> ObjectKey:
    return ObjectKey(metadata["namespace"], metadata["name"])
