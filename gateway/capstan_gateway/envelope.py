"""The OpenAI error envelope: four keys, always."""

from typing import Any

import orjson

from capstan_gateway.errors import GatewayError


def error_payload(error: GatewayError) -> dict[str, Any]:
    """The envelope as a document, which a stream puts into a frame."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_body(error: GatewayError) -> bytes:
    """The envelope as the body of an answer."""
    return orjson.dumps(error_payload(error))
