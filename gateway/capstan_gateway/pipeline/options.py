"""What a client asks of the gateway itself, in the field `capstan` of a request: read once, and never sent on.

    "capstan": {"trim": {"max_tokens": 8000}, "max_cost": 0.02, "cost": true, "prefix": "house-rules"}

It costs nothing where the field is not there; where it is, the request is written anew without it.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.tokens.price import NANO
from capstan_gateway.tokens.usage import MOST_TOKENS

FIELD: Final = "capstan"
MAX_COST_HEADER: Final = "x-capstan-max-cost"
MOST_DOLLARS: Final = 1_000_000
PREFIX_ID: Final = "prefix_id"
"""The same as `capstan.prefix`, beside the field."""
_FIELDS: Final = ("cost", "max_cost", "prefix", "trim")
_DOLLARS: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,12})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything that the field may say."""

    trim_tokens: int | None = None
    """The prompt is cut to so many tokens; None: it is left as it is."""
    max_cost: int | None = None
    """Nano-dollars that the request may cost; None: the caller sets no bound."""
    max_cost_header: bytes = b""
    """The same as a header says it, which nobody has read yet; empty: it was not sent."""
    cost: bool = False
    """Whether a stream tells at its end what it has cost."""
    prefix: str = ""
    """The name of the prompt of the model's that the request begins with; empty: none."""


NO_OPTIONS: Final = Options()


def read_options(given: Any, prefix_id: Any = None) -> Options:
    """Read the values of the fields; InvalidRequest, which names the part that is wrong and what is allowed."""
    named = _name(prefix_id, PREFIX_ID)
    if given is None:
        return Options(prefix=named) if named else NO_OPTIONS
    if not isinstance(given, dict):
        raise _invalid(FIELD, "must be an object")
    for name in given:
        if name not in _FIELDS:
            raise _invalid(FIELD, f"may have the fields {', '.join(_FIELDS)} only")
    prefix = _name(given.get("prefix"), f"{FIELD}.prefix")
    if prefix and named and prefix != named:
        raise _invalid(PREFIX_ID, f"must be the same as `{FIELD}.prefix`, or one of them must go")
    return Options(
        prefix=prefix or named,
        trim_tokens=_trim(given.get("trim")),
        max_cost=read_dollars(given.get("max_cost"), f"{FIELD}.max_cost"),
        cost=_switch(given.get("cost"), f"{FIELD}.cost"),
    )


def caller_bound(options: Options) -> int | None:
    """Give what the request may cost in nano-dollars: the lower one, where field and header say it. InvalidRequest."""
    said = options.max_cost_header
    from_header = read_dollars(said.decode("latin-1"), MAX_COST_HEADER) if said else None
    if from_header is None or options.max_cost is None:
        return options.max_cost if from_header is None else from_header
    return min(from_header, options.max_cost)


def read_dollars(given: Any, field: str) -> int | None:
    """Give an amount of US dollars, a number or a decimal number in a string, in nano-dollars; InvalidRequest.

    What is less than a nano-dollar is nothing: a bound is never taken for a higher one.
    """
    if given is None:
        return None
    text = repr(given) if type(given) in (int, float) else given
    if isinstance(text, str) and (_DOLLARS.fullmatch(text) or type(given) is float):
        dollars = Decimal(text)
        if 0 <= dollars <= MOST_DOLLARS:
            return int(dollars * NANO)
    raise _invalid(field, f"must be a number of US dollars from 0 to {MOST_DOLLARS}")


def _trim(given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, dict) or set(given) != {"max_tokens"}:
        raise _invalid(f"{FIELD}.trim", 'must be an object such as {"max_tokens": 8000}')
    most = given["max_tokens"]
    if type(most) is not int or not 0 < most < MOST_TOKENS:
        raise _invalid(f"{FIELD}.trim.max_tokens", "must be a whole number of tokens above 0")
    return most


def _name(given: Any, field: str) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or not given:
        raise _invalid(field, "must be the name of a prefix of the model")
    return given


def _switch(given: Any, field: str) -> bool:
    if given is None or isinstance(given, bool):
        return bool(given)
    raise _invalid(field, "must be true or false")


def _invalid(field: str, must: str) -> InvalidRequest:
    return InvalidRequest(f"`{field}` {must}", code="invalid_value", param=field)
