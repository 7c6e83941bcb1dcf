"""The gateway's own HTTP/1.1 server: asyncio protocols on httptools, made for answers that are forwarded.

    Listener ── ClientConnection ── Exchange ──► a handler: the inference routes, or the pages of FastAPI
                 on RequestReader (bytes to requests) on ClientWire (transport, deadlines, the end)

docs/performance.md says why, and what it saves.
"""
