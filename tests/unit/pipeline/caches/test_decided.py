"""Each part of what is asked is in the key of its answer, or was left out for a reason."""

from dataclasses import fields

from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.decided import ASK, OPTIONS, REQUEST, ROUTE
from capstan_gateway.pipeline.options import Options
from capstan_gateway.pipeline.request import Request, Route


def test_each_part_of_what_is_asked_was_decided_about() -> None:
    """Who gives a request one more part says whether an answer may depend on it."""
    properties = {name for name, value in vars(Route).items() if isinstance(value, property)}
    assert set(Request.__slots__) == REQUEST.keys()
    assert {field.name for field in fields(Route)} | properties == ROUTE.keys()
    assert {field.name for field in fields(Options)} == OPTIONS.keys()
    assert set(Ask.__slots__) == ASK.keys()
    assert all(why for decided in (REQUEST, ROUTE, OPTIONS, ASK) for why in decided.values())
