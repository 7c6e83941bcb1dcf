"""What parts tenants in the cache of an engine: the `cache_salt` of vLLM, with which its hashes begin. Pure.

An engine that takes over blocks of an earlier prompt answers sooner, and so says that somebody has asked the same. With
a salt of each tenant's, it says that of nobody else. What is kept here of prompts would say it too, and is parted
alike. vLLM takes up to 128 characters without `@`, `/` and backslashes.
"""

from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import InvalidRequest
from capstan_gateway.identity.principal import Principal
from capstan_gateway.pipeline.request import Request
from capstan_gateway.tokens.counter import PromptCounter

SALT: Final = "cache_salt"


def salt_for(request: Request, model: ServedModel, principal: Principal) -> str:
    """Give the salt of a request: one for each tenant at each model, and within it for each that the client says.

    It is a hash under the installation's key, and tells nothing of the tenant. InvalidRequest when the client's own is
    no text, which an engine would refuse too.
    """
    said = request.document.get(SALT)
    if said is None:
        said = ""
    elif not isinstance(said, str) or not said:
        raise InvalidRequest(f"`{SALT}` must be a text that is not empty", code="invalid_value", param=SALT)
    return model.target.pseudonyms.salt(principal.tenant, said, at=model.id)


def counter_for(model: ServedModel, principal: Principal, counter: PromptCounter | None) -> str:
    """Name who makes tokens of a prompt, and for whom, for `tokens.prefixes.names_of`: what is kept of the prompts of
    one tenant is found by no other where the model's engine keeps tenants apart. (The client's own salt is a field of
    the request, and so in the names anyhow.)"""
    whose = principal.tenant if model.isolates else ""
    return f"{model.id} {model.upstream_name} {'' if counter is None else counter.version}\n{whose}"
