"""A small MCP server on its standard input and output: `python mcp_server.py FILE`.

It speaks JSON-RPC 2.0, one message a line, as the transport `stdio` of the Model Context Protocol (revision 2025-06-18)
has it, and has one tool: `lookup` adds the word that it was asked for to FILE, and answers with what it means.
"""

import json
import sys
from pathlib import Path
from typing import Any

NAME = "words"
TOOL = "lookup"
MEANINGS = {"heliotrope": "a flower that turns towards the sun, 8152"}
SCHEMA = {"type": "object", "properties": {"word": {"type": "string", "description": "The word"}}, "required": ["word"]}
METHOD_NOT_FOUND = -32601


def result(method: str, params: dict[str, Any], asked: Path) -> dict[str, Any] | None:
    """Answer a request; None for a method that this server does not have."""
    if method == "initialize":
        version = params.get("protocolVersion", "2025-06-18")
        server = {"name": NAME, "version": "1.0.0"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "ping":
        return {}
    if method == "tools/list":
        # A tool that only reads is called without anybody's leave.
        hints = {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}
        tool = {"name": TOOL, "description": "Says what a word means.", "inputSchema": SCHEMA, "annotations": hints}
        return {"tools": [tool]}
    if method == "tools/call":
        word = params["arguments"]["word"]
        with asked.open("a") as file:
            file.write(f"{word}\n")
        return {"content": [{"type": "text", "text": MEANINGS.get(word, "unknown")}], "isError": word not in MEANINGS}
    return None


def main(asked: Path) -> None:
    """Answer what comes until the client closes its end."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        found = result(message["method"], message.get("params") or {}, asked)
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if found is None:
            answer["error"] = {"code": METHOD_NOT_FOUND, "message": f"{message['method']} is not known"}
        else:
            answer["result"] = found
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
