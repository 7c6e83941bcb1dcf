"""Models whose answers are sampled, and what lies on Redis of them."""

import json
from typing import Any

from capstan_contract.evaluation import Criterion, Evaluation
from capstan_contract.queue.wire import Packing
from capstan_contract.samples import PLANS, Plan, Sample, read_plan, read_sample, samples_key
from support.redis_server import RedisServer

MODEL_ID = "test/m"
CRITERIA = (Criterion(name="polite", text="It is polite."),)


def evaluation(**fields: Any) -> Evaluation:
    """Give an evaluation of all answers, judged by the model `judge`."""
    rate = {} if "perHour" in fields else {"sampleRate": 1.0}
    return Evaluation(**{"criteria": CRITERIA, "judge": "test/judge", **rate, **fields})


def stored_samples(server: RedisServer, model_id: str = MODEL_ID, *, secret: bytes = b"") -> list[Sample]:
    """Read the samples of a model."""
    packing = Packing(secret)
    found: Any = server.client().xrange(samples_key(model_id))
    return [read_sample(model_id, fields[b"s"], packing) for _, fields in found]


def stored_plan(server: RedisServer, model_id: str = MODEL_ID) -> Plan | None:
    """Read the plan of a model."""
    found: Any = server.client().hget(PLANS, model_id)
    return None if found is None else read_plan(found.split(b" ", 1)[1])


def said(sample: Sample) -> str:
    """Give all that a sample says, as one text."""
    return json.dumps(sample.model_dump(mode="json"), ensure_ascii=False)
