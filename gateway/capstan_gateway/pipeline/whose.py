"""Names of users and sessions in a request: what clients say, as far as the credential does not say it. Pure.

A name that a client says is one of its own tenant's: two tenants that call their users alike are never taken for one,
and nobody can speak for another one's user. Without a credential names are as they were said.
"""

from typing import Any, Final

from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.request import NativeRequest, Request

_NAMES: Final = ("safety_identifier", "user")
_METADATA: Final = "metadata"
_USER_ID: Final = "user_id"


def user_of(principal: Principal, said: str) -> str:
    """Give the user of a request: the verified one where there is one, else whom the client says; "" for nobody."""
    name = principal.user or said
    return f"{principal.tenant}\n{name}" if name and principal.is_known else name


def session_of(principal: Principal, said: str) -> str:
    """Give the session of a request, which is its user's own; "" for none."""
    return f"{principal.tenant}\n{principal.user}\n{said}" if said and principal.is_known else said


def said_user(document: dict[str, Any]) -> str:
    """Give whom a chat completion request calls its user; "" for nobody."""
    for name in _NAMES:
        value = document.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def with_verified_user(request: Request, principal: Principal) -> Request:
    """Give the request whose names of users are whom the credential verifies; itself where it has none.

    For models that are told hashes of these names: those are then of the verified user, or of the tenant's own.
    """
    if not principal.is_known:
        return request
    document = _verified(request.document, principal)
    native = request.native
    given = None if native is None else _with_metadata(_verified(native.document, principal), principal)
    if document is request.document and (native is None or given is native.document):
        return request
    return Request(
        request.route, document, request.stream, request.usage_asked, None, request.came, request.plain,
        native=native if native is None or given is None or given is native.document
        else NativeRequest(given, None, native.tools),
        untranslatable=request.untranslatable, headers=request.headers, form=request.form,
    )  # fmt: skip


def _verified(document: dict[str, Any], principal: Principal) -> dict[str, Any]:
    said = {name: document[name] for name in _NAMES if _is_name(document.get(name))}
    if not said:
        return document
    return {**document, **{name: user_of(principal, value) for name, value in said.items()}}


def _with_metadata(document: dict[str, Any], principal: Principal) -> dict[str, Any]:
    metadata = document.get(_METADATA)
    if not isinstance(metadata, dict) or not _is_name(metadata.get(_USER_ID)):
        return document
    return {**document, _METADATA: {**metadata, _USER_ID: user_of(principal, metadata[_USER_ID])}}


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""
