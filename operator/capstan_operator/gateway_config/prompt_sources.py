"""The ConfigMaps that models have prompts in: read when a model first names one, and again every half minute.

They are not watched: that would bring every ConfigMap of the cluster. A look at one is a LIST of that name, for which
the operator has the right already; of what it brings only the prompts are kept that a model names.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.desired.prompts import (
    Filled,
    Prompt,
    PromptKey,
    Trouble,
    fill_prompts,
    prompt_keys,
    read_prompts,
)
from capstan_operator.gateway_config.secret_polls import Polling, SecretPolls, Seen
from capstan_operator.kube.errors import Forbidden, KubeError, NotFound
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import CONFIG_MAPS
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.status.types import Problem

log = logging.getLogger(__name__)

PROMPT_POLLING: Final = Polling(found=30.0, absent=5.0, failed=5.0)
READ_SECONDS: Final = 5.0
"""Deadline of one look."""
FIRST_SECONDS: Final = 2.0
"""How long whoever needs prompts that were never read waits for them."""
FIRST_AT_ONCE: Final = 8
FILLED_BY: Final = 2
"""The gateway's config and the pods have each their own last text of a prompt that is away."""


class PromptSources:
    """What is known of them. `run` until cancelled; `fill` gives a model its prompts."""

    def __init__(
        self,
        kube: KubePort,
        *,
        on_change: Callable[[frozenset[ObjectKey]], None] = lambda _: None,
        polling: Polling = PROMPT_POLLING,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`on_change` is told the models of which a prompt is another one now."""
        self._kube = kube
        self._on_change = on_change
        self._polls = SecretPolls(rng=rng, polling=polling)
        self._polls_changed = asyncio.Event()
        self._prompts: dict[PromptKey, Prompt] = {}
        self._wanted: Mapping[ObjectKey, frozenset[str]] = {}
        """The keys that models name, by ConfigMap."""
        self._users: Mapping[ObjectKey, frozenset[ObjectKey]] = {}
        """The models that name each ConfigMap."""
        self._filled: dict[str, tuple[LLMModelSpec | None, tuple[LLMModelSpec | None, ...]]] = {}
        """By uid: of which spec, and what has come of it lately, for each of those who fill it."""

    async def want(self, models: Iterable[Model]) -> None:
        """Follow the prompts of these models from now on, and no others; wait a moment for those never read."""
        keys: defaultdict[ObjectKey, set[str]] = defaultdict(set)
        users: defaultdict[ObjectKey, set[ObjectKey]] = defaultdict(set)
        uids = set()
        for model in models:
            for one in prompt_keys(model):
                keys[one.config_map].add(one.key)
                users[one.config_map].add(model.key)
                uids.add(model.uid)
        self._wanted = {name: frozenset(found) for name, found in keys.items()}
        self._users = {name: frozenset(found) for name, found in users.items()}
        self._prompts = {one: found for one, found in self._prompts.items() if one.key in keys.get(one.config_map, ())}
        self._filled = {uid: found for uid, found in self._filled.items() if uid in uids}
        wanted = [PromptKey(name, key) for name, found in keys.items() for key in found]
        await self._read_first(wanted)
        lacking = {one.config_map for one in wanted if isinstance(self._prompts.get(one, Trouble.UNREADABLE), Trouble)}
        self._polls.want(keys, lacking, self._now())
        self._polls_changed.set()

    async def read(self, models: Iterable[Model]) -> None:
        """Wait a moment for the prompts of these models that were never read."""
        news = await self._read_first(key for model in models for key in prompt_keys(model))
        if users := frozenset[ObjectKey]().union(*(self._users.get(name, ()) for name in news)):
            self._on_change(users)  # somebody has gone on without them

    def fill(self, model: Model, last: Mapping[str, str]) -> Filled:
        """Give the model with its prompts, see `fill_prompts`: the same spec again as long as nothing has changed."""
        if not prompt_keys(model):
            return Filled(model)
        found = fill_prompts(model, self._prompts, last)
        of_spec, known = self._filled.get(model.uid, (None, ()))
        known = known if of_spec is model.spec else ()
        # NB: whoever remembers what it has made of a spec knows it by its identity.
        spec = next((one for one in known if one == found.model.spec), found.model.spec)
        self._filled[model.uid] = model.spec, (spec, *(one for one in known if one is not spec))[:FILLED_BY]
        return replace(found, model=replace(found.model, spec=spec))

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._polls_changed.clear()
                while name := self._polls.take(self._now()):
                    group.create_task(self._poll(ObjectKey(*name)), name="look at a ConfigMap")
                try:
                    async with asyncio.timeout_at(self._polls.next_look(self._now())):
                        await self._polls_changed.wait()
                except TimeoutError:
                    pass  # one is due

    async def _poll(self, name: ObjectKey) -> None:
        wanted = self._wanted.get(name, frozenset())
        found = await self._look(name, wanted)
        bad = [one for one in found.values() if isinstance(one, Trouble)]
        seen = Seen.FAILED if Trouble.UNREADABLE in bad else Seen.ABSENT if bad else Seen.FOUND
        if self._take(name, found) and (users := self._users.get(name)):
            log.info("prompts have changed", extra={"object": str(name), "count": len(users)})
            self._on_change(users)
        self._polls.done(name, seen, self._now())
        self._polls_changed.set()

    async def _read_first(self, keys: Iterable[PromptKey]) -> set[ObjectKey]:
        """Read what was never read; give the ConfigMaps that have told something."""
        unread: defaultdict[ObjectKey, set[str]] = defaultdict(set)
        for key in keys:
            if key not in self._prompts:
                unread[key.config_map].add(key.key)
        news: set[ObjectKey] = set()
        places = asyncio.Semaphore(FIRST_AT_ONCE)

        async def one(name: ObjectKey, wanted: set[str]) -> None:
            async with places:
                # NB: the other keys of it are read along, so that all that is known of one is of one moment.
                if self._take(name, await self._look(name, wanted | self._wanted.get(name, frozenset()))):
                    news.add(name)

        try:
            async with asyncio.timeout(FIRST_SECONDS):
                await asyncio.gather(*(one(name, wanted) for name, wanted in sorted(unread.items())))
        except TimeoutError:
            log.info("went on without prompts", extra={"count": len(unread)})
            for name, wanted in unread.items():
                # Nobody else waits for them: the looks that follow will tell.
                self._take(name, dict.fromkeys(wanted, Trouble.UNREADABLE))
        return news

    def _take(self, name: ObjectKey, found: Mapping[str, Prompt]) -> bool:
        """Take in what a look has come to; say whether it is news. What is known outlives a look that has failed."""
        is_news = False
        for key, prompt in found.items():
            one = PromptKey(name, key)
            if prompt is Trouble.UNREADABLE and one in self._prompts:
                continue
            is_news |= self._prompts.get(one) != prompt
            self._prompts[one] = prompt
        return is_news

    async def _look(self, name: ObjectKey, keys: Iterable[str]) -> dict[str, Prompt]:
        """Look at keys of a ConfigMap. Never raises for what the API server says."""
        wanted = tuple(keys)
        try:
            async with asyncio.timeout(READ_SECONDS):
                listing = await self._kube.list(
                    CONFIG_MAPS, namespace=name.namespace, field_selector=f"metadata.name={name.name}"
                )
            found = (item for item in listing.items if item["metadata"]["name"] == name.name)
            return read_prompts(next(found, None), wanted)
        except NotFound:
            return dict.fromkeys(wanted, Trouble.MISSING)
        except Forbidden:
            return dict.fromkeys(wanted, Trouble.FORBIDDEN)
        except (KubeError, TimeoutError) as error:
            log.debug("could not read a ConfigMap", extra={"object": str(name), "error": str(error)})
            return dict.fromkeys(wanted, Trouble.UNREADABLE)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def problems_of(filled: Filled) -> tuple[Problem, ...]:
    """Give what a model's status says of prompts that cannot be had: the model answers all the same."""
    return tuple(
        Problem(str(trouble), str(fault), partial=True, needs_person=trouble is not Trouble.UNREADABLE)
        for trouble, fault in filled.faults
    )
