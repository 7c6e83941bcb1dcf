"""How a log line looks."""

import json
import logging

from capstan_operator.logs import JsonFormatter


def test_a_log_line_is_one_json_object_with_its_fields() -> None:
    """Constant message, variable fields, and no field of logging itself or of kopf."""
    record = logging.makeLogRecord({"msg": "applied object", "levelname": "INFO", "model": "ns/m", "k8s_ref": {"a": 1}})
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "applied object"
    assert line["model"] == "ns/m"
    assert "k8s_ref" not in line
    assert "args" not in line
