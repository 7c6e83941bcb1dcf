"""How a line of the request log looks, whatever is in it."""

import os

import pytest

from capstan_gateway.telemetry.requestlog import MAX_LINE_BYTES, RequestLog

FORGED = "a\n2026-01-01 00:00:00 INFO    request: served request request_id=forged\x1b[2J status=200 " + "y" * 20_000


@pytest.mark.parametrize("as_json", [False, True])
def test_a_line_of_a_request_is_one_line(as_json: bool) -> None:
    """What an engine says in an error's code, or in anything else that is logged, forges no request."""
    reader, writer = os.pipe()
    log = RequestLog(writer, as_json=as_json)
    log.write({"request_id": "r1", "error": FORGED, "failures": ["A", "503"], "odd": "\ud800"})
    log.flush()
    os.close(writer)
    with os.fdopen(reader) as lines:
        written = lines.read()
    assert written.count("\n") == 1
    assert written.rstrip("\n").isprintable()
    assert len(written) < 2 * MAX_LINE_BYTES
