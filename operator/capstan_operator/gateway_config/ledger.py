"""What stands behind the hash of a config: which generation of which object it was compiled from.

Gateways report hashes, and know no generations. A generation that changes nothing for them (a scale, a label) keeps the
hash, and is acknowledged as soon as it is written here.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.config import GatewayConfig
from capstan_contract.entries import Entry
from capstan_contract.names import canary_id

HUNDREDTHS: Final = 100
MOST_HASHES: Final = 32
"""A replica that is further behind is asked for nothing but to catch up."""

EntryId = str
"""The id of an entry of the config: `namespace/name` of an LLMModel, `Kind/namespace/name` of a policy."""


@dataclass(frozen=True)
class Recorded:
    """What an entry of a config was compiled from."""

    uid: str
    generation: int


Records = Mapping[EntryId, Recorded]
"""All entries of one config. An object that is not in it is not served by it."""


def splits_of(config: GatewayConfig) -> dict[EntryId, Recorded]:
    """Give what stands in a config of canaries, by their ids: of which try, and with what weight in hundredths of a
    percent."""
    tried = {canary_id(entry.id): entry.canary for entry in config.models if entry.canary is not None}
    return {id_: Recorded(canary.id, round(canary.weight * HUNDREDTHS)) for id_, canary in tried.items()}


UNKNOWN: Final = Recorded("", 0)
"""Of an entry of which nobody knows what it was compiled from."""


class Ledger:
    """The last configs that were compiled, by hash. Pure, and bounded."""

    def __init__(self, *, most: int = MOST_HASHES) -> None:
        self._most = most
        self._records: OrderedDict[str, Records] = OrderedDict()
        self.version = 0
        """Changes whenever an answer may be another one."""

    def record(self, config_hash: str, records: Records) -> None:
        """Say what a config was compiled from. Said again of the same hash, the newest counts: its content is the same,
        so whoever runs it runs these generations."""
        known = self._records.get(config_hash)
        if known == records and next(reversed(self._records)) == config_hash:
            return
        self._records[config_hash] = known if known is not None and known == records else dict(records)
        self._records.move_to_end(config_hash)
        while len(self._records) > self._most:
            self._records.popitem(last=False)
        self.version += 1

    def records(self, config_hash: str | None) -> Records | None:
        """Give what a config was compiled from; None for one that this process has not compiled, or long ago."""
        return None if config_hash is None else self._records.get(config_hash)

    def is_older(self, config_hash: str | None, than: str | None) -> bool:
        """Whether a config was compiled before another one; False when either is not known."""
        order = list(self._records)
        return (
            config_hash in self._records
            and than in self._records
            and order.index(str(config_hash)) < order.index(str(than))
        )


def records_of_written(written: GatewayConfig, known: Records, compiled: GatewayConfig, newest: Records) -> Records:
    """Give what the config that is written stands for, when a newer one was compiled (from `newest`) and could not be
    written: an entry that is the same in both stands for what it was compiled from last."""
    new: dict[EntryId, Entry] = {entry.id: entry for entry in (*compiled.models, *compiled.policies)}
    return {
        entry.id: newest[entry.id]
        if entry.id in newest and new.get(entry.id) == entry
        else known.get(entry.id, UNKNOWN)
        for entry in (*written.models, *written.policies)
    }


def holds(records: Records, entry: EntryId, *, uid: str, generation: int) -> bool:
    """Whether a config holds this generation of an object, or a newer one."""
    found = records.get(entry)
    return found is not None and found.uid == uid and found.generation >= generation
