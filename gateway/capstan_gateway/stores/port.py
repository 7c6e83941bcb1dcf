"""What the stores ask of whoever keeps their bytes, and what goes wrong there."""

from collections.abc import Sequence
from typing import Protocol


class StoreDown(Exception):
    """It did not answer in time, could not be reached, or refused: nothing is known of what is stored."""


class KeyStore(Protocol):
    """Keys with fields, and scripts that change several keys at once. Calls have a deadline, and raise StoreDown."""

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Give these fields of a key; None for those that are not there."""
        ...

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        """Give all fields of a key; none where it is not there."""
        ...

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Run a script of one slot's keys, all or nothing as others see it; give the number that it returns."""
        ...
