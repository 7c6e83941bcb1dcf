"""What the stores ask of whoever keeps their bytes, and what goes wrong there."""

from collections.abc import Sequence
from typing import Final, Protocol

PAGE_FIELDS: Final = 500
"""Fields of a large key that are read in one operation: Redis does nothing else meanwhile, and limits wait for it."""


class StoreDown(Exception):
    """It did not answer in time, could not be reached, or refused: nothing is known of what is stored."""


class KeyStore(Protocol):
    """Keys with fields, and scripts that change several keys at once. Calls have a deadline, and raise StoreDown."""

    async def read(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Give these fields of a key; None for those that are not there."""
        ...

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        """Give all fields of a key; none where it is not there. What changes meanwhile is read before or after that."""
        ...

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> int:
        """Run a script of one slot's keys, all or nothing as others see it; give the number that it returns."""
        ...
