"""The inputs of a request for embeddings, each of which is an answer of its own. Pure.

[a, b, c, b] ─► keys of a, b, c    what is asked beside them (dimensions, encoding_format, ...) is in each of them
b is there   ─► [a, c] are asked   each once, in the order in which they first come
the answer   ─► a, b, c, b         again in the order of the request; the tokens of what was asked are shared out
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from capstan_gateway.caches.port import CacheKey

MOST_INPUTS: Final = 2048
"""As many as OpenAI's API takes; a longer list is one answer."""
_DIGEST_BYTES: Final = 32


class Inputs(NamedTuple):
    """What is asked for, one by one."""

    values: tuple[Any, ...]
    """Texts, or lists of token ids, as the request has them."""
    keys: tuple[CacheKey, ...]
    """Of each, what it is kept under."""
    weights: tuple[int, ...]
    """About how much each has of the tokens of all."""

    def picked(self, places: Sequence[int]) -> "Inputs":
        """Give some of them."""
        return Inputs(
            tuple(self.values[place] for place in places),
            tuple(self.keys[place] for place in places),
            tuple(self.weights[place] for place in places),
        )

    def missing(self, there: Sequence[bool]) -> "Inputs":
        """Give those that are not there, each of them once."""
        first = {key: place for place, key in reversed(list(enumerate(self.keys))) if not there[place]}
        return self.picked(sorted(first.values()))


def values_of(document: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Give the inputs of a request; None where they are not texts, nor lists of token ids, or too many."""
    given = document.get("input")
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list) or not given:
        return None
    if _are_tokens(given):
        return (given,)
    alike = all(type(one) is str for one in given) or all(_are_tokens(one) for one in given)
    return tuple(given) if alike and len(given) <= MOST_INPUTS else None


def inputs_of(values: Sequence[Any], rest: CacheKey, *, secret: bytes = b"") -> Inputs:
    """Give them with their keys. `rest` is the key of all that is asked beside the input."""
    keys, weights = [], []
    for value in values:
        text = type(value) is str
        said = value.encode("utf-8", "surrogatepass") if text else orjson.dumps(value)
        digest = blake2b(rest.digest, key=secret, digest_size=_DIGEST_BYTES, person=b"input")
        digest.update(b"text" if text else b"ids ")
        digest.update(said)
        keys.append(rest._replace(digest=digest.digest()))
        weights.append(len(said) if text else len(value))
    return Inputs(tuple(values), tuple(keys), tuple(weights))


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and set(map(type, value)) == {int}


def shared_out(amount: int, weights: Sequence[int]) -> list[int]:
    """Share out a whole number by weights: whole numbers, whose sum is that number."""
    total, given, so_far, shares = sum(weights), 0, 0, []
    whole = total or len(weights)
    for weight in weights:
        so_far += weight if total else 1
        upto = amount * so_far // whole
        shares.append(upto - given)
        given = upto
    return shares


class Parts(NamedTuple):
    """An answer, taken apart."""

    head: Mapping[str, Any]
    """What it says beside the vectors."""
    items: tuple[bytes, ...]
    """What it says of each input, in the order of the request, without its place."""


def taken_apart(body: bytes, count: int) -> Parts | None:
    """Take the answer for so many inputs apart; None where it is not one thing for each of them."""
    try:
        answer = orjson.loads(body)
        data, items = answer["data"], dict[int, bytes]()
        for item in data:
            place, vector = item.pop("index"), item["embedding"]
            if type(place) is not int or not vector or not isinstance(vector, list | str):
                return None
            items[place] = orjson.dumps(item)
        head = {name: value for name, value in answer.items() if name != "data"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if len(data) != count or items.keys() != set(range(count)) or head.get("error") is not None:
        return None
    return Parts(head, tuple(items[place] for place in range(count)))


def put_together(head: Mapping[str, Any], items: Sequence[bytes], *, prompt: int, cached: int) -> bytes:
    """Write an answer: of `prompt` tokens in all, `cached` of which nobody had to compute."""
    told = head.get("usage")
    usage = {**told} if isinstance(told, Mapping) else {}
    details = usage.get("prompt_tokens_details")
    usage |= {
        "prompt_tokens": prompt, "total_tokens": prompt,
        "prompt_tokens_details": {**(details if isinstance(details, Mapping) else {}), "cached_tokens": cached},
    }  # fmt: skip
    around = {"object": "list", **head, "usage": usage}
    data = b",".join(b'{"index":%d,%b' % (place, item[1:]) for place, item in enumerate(items))
    return b'{"data":[%b],%b' % (data, orjson.dumps(around)[1:])
