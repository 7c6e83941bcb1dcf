"""The tokenizers of all models: those of the files that are there, as long as they count what engines count.

files ──scan──► names ──of the models that the config has──► read, made ──► asked for by `of`
                              │ cannot be used                      │ counts otherwise than the engine, repeatedly
                              └────────► said: log, metric, /readyz's notes, and the next source counts ◄─┘
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from capstan_contract.config import ModelEntry
from capstan_gateway.life.threads import Threads
from capstan_gateway.tokenizers.encodings import PATTERNS, PUBLISHED
from capstan_gateway.tokenizers.files import Files, Unusable, read, scan
from capstan_gateway.tokenizers.trust import Trust
from capstan_gateway.tokenizers.wanted import Wanted, wanted_of
from capstan_gateway.tokens.counter import CountedBy, PromptCounter

log = logging.getLogger(__name__)

RECHECK_SECONDS: Final = 5.0
"""How often the directory is looked through: claims of most kinds notify nobody of a change."""
MAX_TOKENIZERS: Final = 32
"""A large one takes some 50 MiB."""
DISTRUSTED: Final = "distrusted"
MISSING: Final = "missing"
TOO_MANY: Final = "too many"


class Listener(Protocol):
    """Who counts faults: `(tokenizer, reason)`."""

    def __call__(self, tokenizer: str, reason: str, /) -> None:
        """Count one."""
        ...


@dataclass(slots=True)
class _Model:
    """A model whose tokenizer is here."""

    name: str
    counter: PromptCounter
    trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of the files of a name."""

    files: Files
    counter: PromptCounter | None
    fault: Unusable | None = None

    @property
    def may_pass(self) -> bool:
        """Whether the same files may do another time: what was wrong was not in them."""
        return self.fault is not None and self.fault.may_pass


class Shelf:
    """`tokens.counter.Counters`. All but what is said to be blocking in the loop's thread."""

    def __init__(self, directory: Path, *, count: Listener, published: Mapping[str, str] = PUBLISHED) -> None:
        self._directory = directory
        self._count = count
        self._published = published
        self._wanted: dict[str, Wanted] = {}
        self._models: dict[str, _Model] = {}
        self._made: dict[str, _Made] = {}
        self._faults: dict[tuple[str, str], str] = {}
        self._threads = Threads("tokenizer-files")
        self._changed = asyncio.Event()

    # --- who asks -----------------------------------------------------------------------------------------------------

    def of(self, model_id: str) -> PromptCounter | None:
        """See `Counters.of`."""
        model = self._models.get(model_id)
        return model.counter if model is not None and model.trust.trusted else None

    def to_compare(self, model_id: str) -> PromptCounter | None:
        """Give the counter whose count of the next prompt of this model is to be told; None where none is."""
        model = self._models.get(model_id)
        return model.counter if model is not None and model.trust.wants() else None

    def observe(self, model_id: str, counter: PromptCounter, *, counted: int, told: int) -> None:
        """Take a count, and what the engine told of the same prompt."""
        model = self._models.get(model_id)
        if model is None or model.counter is not counter or not model.trust.observe(counted, told):
            return
        fields = {"model": model_id, "tokenizer": model.name, "counted": counted, "told": told}
        if model.trust.trusted:
            self._faults.pop((model_id, DISTRUSTED), None)
            log.info("a tokenizer counts what the engine counts again", extra=fields)
            return
        self._count(model.name, DISTRUSTED)
        self._faults[model_id, DISTRUSTED] = (
            f"the tokenizer '{model.name}' counts otherwise than the engine of '{model_id}', and is not used"
        )
        log.warning("a tokenizer counts otherwise than the model's engine: it is not used any more", extra=fields)

    def notes(self) -> tuple[str, ...]:
        """Say which tokenizers are not used, and why."""
        return tuple(self._faults.values())

    def kinds(self) -> dict[CountedBy, int]:
        """Give how many models are counted by which kind."""
        kinds = dict.fromkeys((CountedBy.FILE, CountedBy.TIKTOKEN), 0)
        for model in self._models.values():
            if model.trust.trusted:
                kinds[model.counter.kind] += 1
        return kinds

    # --- what is there ------------------------------------------------------------------------------------------------

    def want(self, entries: Iterable[ModelEntry]) -> None:
        """Take the models of the config that is in use now."""
        wanted = {entry.id: found for entry in entries if (found := wanted_of(entry)) is not None}
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    def names(self) -> frozenset[str]:
        """Give every name that a tokenizer of theirs may have."""
        return frozenset(name for one in self._wanted.values() for name in one.names)

    async def run(self) -> None:
        """Look through the directory for ever."""
        while True:
            self._changed.clear()
            await self.refresh()
            try:
                async with asyncio.timeout(RECHECK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def refresh(self) -> None:
        """Look through the directory, and read what is wanted and is new."""
        wanted = self._wanted
        there = await self._threads.run(scan, self._directory)
        chosen = {id: name for id, one in wanted.items() if (name := _first(one, there)) is not None}
        names = sorted(set(chosen.values()))
        made = {
            name: before
            for name in names
            if (before := self._made.get(name)) is not None and before.files == there[name] and not before.may_pass
        }
        for name in names:
            files = there[name]
            if name in made:
                continue
            if sum(one.counter is not None for one in made.values()) >= MAX_TOKENIZERS:
                made[name] = _Made(files, None, Unusable(TOO_MANY, f"there are {MAX_TOKENIZERS} others", may_pass=True))
            else:
                made[name] = await self._threads.run(_make, name, files, self._published)
        self._take(wanted, chosen, made)

    def _take(self, wanted: Mapping[str, Wanted], chosen: Mapping[str, str], made: dict[str, _Made]) -> None:
        models, faults = {}, {}
        for id, name in chosen.items():
            one, known = made[name], self._models.get(id)
            if one.counter is None:
                faults[name, one.fault.reason if one.fault else ""] = f"tokenizer '{name}': {one.fault}"
            elif known is not None and known.counter is one.counter:
                models[id] = known
                if not known.trust.trusted:
                    faults[id, DISTRUSTED] = self._faults[id, DISTRUSTED]
            else:
                models[id] = _Model(name, one.counter)
        for id, one_wanted in wanted.items():
            if one_wanted.named and id not in chosen:
                name = one_wanted.names[0]
                faults[name, MISSING] = f"tokenizer '{name}': there is none of this name in {self._directory.name}"
        for where, message in faults.items():
            if where not in self._faults:
                self._count(*where)
                log.warning("a tokenizer cannot be used", extra={"tokenizer": where[0], "reason": message})
        for name, one in made.items():
            if one.counter is not None and self._made.get(name) is not one:
                log.info("read a tokenizer", extra={"tokenizer": name, "kind": one.counter.kind.value})
        self._models, self._made, self._faults = models, made, faults


def _first(wanted: Wanted, there: Mapping[str, Files]) -> str | None:
    return next((name for name in wanted.names if name in there), None)


def _make(name: str, files: Files, published: Mapping[str, str]) -> _Made:
    """Read and make a tokenizer: blocking. The libraries are loaded here, where one is used."""
    try:
        return _Made(files, _counter(name, files, published))
    except Unusable as fault:
        return _Made(files, None, fault)
    except Exception as error:  # noqa: BLE001 - whatever a file does to a library: it takes none of the others away
        return _Made(files, None, Unusable("no tokenizer", f"it cannot be made: {type(error).__name__}"))


def _counter(name: str, files: Files, published: Mapping[str, str]) -> PromptCounter:
    shipped = read(files)
    if not shipped.ranks:
        from capstan_gateway.tokenizers.hugging_face import FileCounter

        return FileCounter(shipped)
    if name not in PATTERNS:
        raise Unusable("unknown encoding", f"of ranks only these are known: {', '.join(sorted(PATTERNS))}")
    if hashlib.sha256(shipped.tokenizer).hexdigest() != published[name]:
        raise Unusable("another file", f"it is not the file {name}.tiktoken that OpenAI has published")
    from capstan_gateway.tokenizers.ranks import RankCounter

    return RankCounter(shipped, name)
