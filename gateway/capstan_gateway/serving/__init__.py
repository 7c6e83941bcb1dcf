"""The gateway's own HTTP/1.1 server: asyncio protocols on httptools, made for answers that are forwarded.

    Listener ── ClientConnection ── Exchange ──► a handler of the Service: the inference routes, or the pages of FastAPI
                 ├─ RequestReader    bytes to requests
                 └─ ClientWire       transport, deadlines, the end

A `Service` is what all connections of one port share. docs/performance.md says why, and what it saves.
"""
