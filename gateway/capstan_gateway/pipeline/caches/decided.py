"""What of a request is in the key of its answer, and what is not: each part of it is decided about here, with a reason.

Tests hold that nothing is missing: who gives a request, an ask or an option one part more has to say here whether an
answer may depend on it. Fields of documents and of models' entries are decided about in `caches.key`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

REQUEST: Final[Mapping[str, str]] = MappingProxyType(
    {
        "document": "keyed: what is asked, where the model is asked in chat's form",
        "native": "keyed: what is asked, where the model is asked in the client's own dialect",
        "headers": "keyed where they are sent: versions and beta features of a dialect",
        "route": "keyed: its path and its dialect",
        "stream": "keyed where a stream does not add up to the answer in one piece; see `question.ONE_FORM`",
        "came": "a size",
        "form": "requests with a file are left alone: their paths are not among `question.PATHS`",
        "plain": "follows from the document",
        "raw": "the layer has it written anew, so that the document is what is sent",
        "untranslatable": "such a request is looked for only where the client's own document is what is sent",
        "usage_asked": "which frames a stream has",
    }
)
"""Slots of `request.Request`."""
ROUTE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "upstream_path": "keyed",
        "dialect": "keyed",
        "counts": "such requests are left alone",
        "form": "as that of a request",
        "model": "what it stands for is in the document",
        "path": "follows from the others",
        "required": "what is checked",
        "streams": "what is checked",
        "tasks": "which models serve it",
    }
)
"""Fields and properties of `request.Route`."""
OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "prefix": "the document is the one with the prompt in it, before anybody looks for an answer",
        "trim_tokens": "the document is the trimmed one, before anybody looks for an answer",
        "max_cost": "which models may answer; what others than the one that was asked for say is not kept",
        "max_cost_header": "as `max_cost`",
        "cost": "told beside the answer",
    }
)
"""Fields of `options.Options`."""
ASK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "request": "keyed; see above. It is what guards have made of it",
        "model": "keyed by the layer, which is around one name of a model",
        "principal": "keyed: the partition",
        "named": "keyed: what guards have redacted is the user's own, and so is the partition then",
        "replaced": "as `named`",
        "_root": "where the two before are found",
        "headers": "what they say of caches is done, or the policy bypasses the request; no engine gets one of them",
        "own": "what the gateway asks on its own behalf is left alone",
        "options": "see above",
        "runtime": "the model's entry and its guards are in its identity; who shares a call has the same one",
        "inside": "who shares a call has the same one; the guards among them judge what comes out of a cache, too",
        "governed": "limits. Who may spend a certain sum shares no call, because that decides who answers",
        "arms": "what is counted",
        "answered_by": "an answer of another model is not kept",
        "bill": "what it costs",
        "budget": "memory",
        "cached": "what is told",
        "counted_by": "what is told",
        "ended": "how far it is",
        "expires_at": "what did not come in time is not kept",
        "gathered": "images by address: such requests are left alone",
        "guarded": "what is told",
        "holders": "who waits",
        "may_wait": "how long it may take",
        "on_withheld": "who lets go of an answer",
        "request_id": "a name",
        "route_note": "what is told",
        "service_tier": "how long it may take",
        "session": "which endpoint is preferred",
        "started": "when",
        "stats": "what was done for it",
        "task": "who works on it",
        "trace": "a name",
        "unchecked": "what is told",
        "_closers": "what is open",
        "_memory": "what it holds",
    }
)
"""Slots of `ask.Ask`."""
