"""Waiting for the first of several things to happen."""

import asyncio


async def first_of(*events: asyncio.Event) -> None:
    """Return when one of the events is set; nobody waits for the others any more when it does, or is cancelled."""
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
