"""The judge of a model, asked through the gateway, as a request that is no sample itself."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from capstan_contract.samples import OWN_REQUESTS, Plan
from capstan_evaluation.judges.judging import Judge
from capstan_evaluation.records import Answer
from capstan_evaluation.runs.client import Connection, Model, Server

_RANDOM_BYTES: Final = 8


def new_request_id() -> str:
    """Give an id by which gateways know that nobody's answer is asked for."""
    return OWN_REQUESTS.decode() + secrets.token_hex(_RANDOM_BYTES)


class Asked:
    """One judge; implements `asking.Chat`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def chat(self, document: Mapping[str, Any], *, repeat: int = 0) -> Answer:  # noqa: ARG002 - each ask is one
        """Ask once. Nothing that the judge or the network does raises."""
        return await self._model.chat(document)


def judges_of(connection: Connection, url: str, key: Callable[[], str]) -> Callable[[Plan], Judge]:
    """Give what makes the judge of a plan. `key` is read for each, so that a new one is used from then on."""

    def judge_of(plan: Plan) -> Judge:
        server = Server(url, key(), seconds=plan.evaluation.judgeTimeoutSeconds, request_id=new_request_id)
        return Judge(chat=Asked(Model(connection, server, plan.judge)), model=plan.judge)

    return judge_of
