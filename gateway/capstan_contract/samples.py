"""Sampled answers on Redis: keys, scripts, and what is in a sample. Gateways put them there, the scorer takes them.

    capstan:{evaluation}:1:plans                  by the id of a model: how it is evaluated, and who judges
    capstan:{evaluation}:1:samples:MODEL          a stream of the samples of one model, each packed (see `queue.wire`)
    capstan:{evaluation}:1:taken:MODEL:HOUR       how many samples of a model this clock hour has had (`perHour`)
    capstan:{evaluation}:1:judged:HOUR            how many calls of judges it has had
    capstan:{evaluation}:1:scores:MODEL           a stream of scores, which hold no text
    capstan:{evaluation}:1:dead                   by the id of a model: samples that were given up

All keys have one hash tag, so that a Redis Cluster keeps them together. Every key expires but the last one, from
which the scorer takes who is evaluated no more. Times are those of Redis.
"""

import json
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from capstan_contract.entries import Document, is_empty
from capstan_contract.evaluation import Evaluation
from capstan_contract.queue.calls import Call
from capstan_contract.queue.wire import Packing, Unreadable

SAMPLES_VERSION: Final = 1
PREFIX: Final = f"capstan:{{evaluation}}:{SAMPLES_VERSION}:"
PLANS: Final = f"{PREFIX}plans"
DEAD: Final = f"{PREFIX}dead"
GROUP: Final = "scorers"
"""The consumer group of each stream of samples."""
OWN_REQUESTS: Final = b"capstan-eval-"
"""What the ids of requests begin with that the scorer makes: their answers are never samples."""
PLAN_SECONDS: Final = 3600
"""A plan that no gateway has repeated for so long is one of a model that is evaluated no more."""
HOUR_SECONDS: Final = 3600

_TRIM: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""

PUT: Final = (
    _TRIM
    + """
-- KEYS: samples, plans, counts of the hour (without the hour). ARGV: model, plan, sample (empty: say only the plan),
-- most entries, retention in ms, samples an hour (0: any number). Gives 1, or 0 when the hour has had its number.
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d ', clock[1]) .. ARGV[2])
redis.call('EXPIRE', KEYS[2], 7200)
redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%d', math.max(0, now - tonumber(ARGV[5]))))
if ARGV[3] == '' then return 1 end
local most = tonumber(ARGV[6])
if most > 0 then
  local hour = KEYS[3] .. string.format('%d', math.floor(tonumber(clock[1]) / 3600))
  local had = redis.call('INCR', hour)
  redis.call('EXPIRE', hour, 7200)
  if had > most then return 0 end
end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 's', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
)

TAKE: Final = (
    _TRIM
    + """
-- KEYS: samples, counts of judgements (without the hour), dead. ARGV: consumer, most samples, ms after which a consumer
-- is dead, most tries, calls of the judge for a sample, calls an hour (0: any number), retention in ms, model.
-- Gives {{id, sample, try}, ...}
if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.call('XTRIM', KEYS[1], 'MINID', '=', string.format('%d', math.max(0, now - tonumber(ARGV[7]))))
pcall(redis.call, 'XGROUP', 'CREATE', KEYS[1], 'scorers', '0')
for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'scorers')) do
  -- Each start of a scorer is another name. name, _, pending, _, idle, _
  if one[4] == 0 and one[6] > 60 * tonumber(ARGV[3]) and one[2] ~= ARGV[1] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'scorers', one[2])
  end
end
local calls, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local hour = KEYS[2] .. string.format('%d', math.floor(tonumber(clock[1]) / 3600))
local had = tonumber(redis.call('GET', hour) or '0')
local room = tonumber(ARGV[2])
if most > 0 then room = math.min(room, math.floor((most - had) / calls)) end
local found = {}
if room <= 0 then return found end
for _, one in ipairs(redis.call('XPENDING', KEYS[1], 'scorers', 'IDLE', ARGV[3], '-', '+', room)) do
  local id, tries = one[1], tonumber(one[4])
  if tries >= tonumber(ARGV[4]) then
    redis.call('XACK', KEYS[1], 'scorers', id)
    redis.call('XDEL', KEYS[1], id)
    redis.call('HINCRBY', KEYS[3], ARGV[8], 1)
  else
    local claimed = redis.call('XCLAIM', KEYS[1], 'scorers', ARGV[1], ARGV[3], id)
    if claimed[1] and claimed[1][2] then
      table.insert(found, {id, claimed[1][2][2], tries + 1})
    else
      redis.call('XACK', KEYS[1], 'scorers', id)  -- It was trimmed.
    end
  end
end
if #found < room then
  local read = redis.call('XREADGROUP', 'GROUP', 'scorers', ARGV[1], 'COUNT', room - #found, 'STREAMS', KEYS[1], '>')
  if read then
    for _, one in ipairs(read[1][2]) do table.insert(found, {one[1], one[2][2], 1}) end
  end
end
if #found > 0 then
  redis.call('INCRBY', hour, #found * calls)
  redis.call('EXPIRE', hour, 7200)
end
return found
"""
)

SCORED: Final = (
    _TRIM
    + """
-- KEYS: samples, scores. ARGV: id of the sample, most entries, window in ms, then scores. Gives 1; 0 when somebody else
-- has scored it, or it is gone: then nothing is counted.
if redis.call('XACK', KEYS[1], 'scorers', ARGV[1]) == 0 then return 0 end
redis.call('XDEL', KEYS[1], ARGV[1])
for at = 4, #ARGV do redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 's', ARGV[at]) end
redis.call('XTRIM', KEYS[2], 'MINID', '=', string.format('%d', math.max(0, now - tonumber(ARGV[3]))))
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
)

RENEW: Final = """
-- KEYS: samples. ARGV: consumer, ids. Says that it works on them: no other consumer takes them, and it is no other try.
-- One that newer ones have pushed out of the stream is left alone: to claim it would be to forget who works on it, and
-- its score would count for nothing. When many wait, the oldest ones are in work and are those that go.
for at = 2, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[at], ARGV[at]) > 0 then
    redis.call('XCLAIM', KEYS[1], 'scorers', ARGV[1], 0, ARGV[at], 'JUSTID')
  end
end
return 1
"""

READ_PLANS: Final = """
-- KEYS: plans, dead. ARGV: seconds after which a plan is no more. Gives {plans, dead, now in ms}
local clock = redis.call('TIME')
local plans, least = {}, tonumber(clock[1]) - tonumber(ARGV[1])
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local said = tonumber(string.match(all[at + 1], '^(%d+) ') or '0')
  if said < least then
    redis.call('HDEL', KEYS[1], all[at])
    redis.call('HDEL', KEYS[2], all[at])
  else
    table.insert(plans, all[at])
    table.insert(plans, string.sub(all[at + 1], string.find(all[at + 1], ' ') + 1))
  end
end
return {plans, redis.call('HGETALL', KEYS[2]), tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)}
"""

READ_SCORES: Final = """
-- KEYS: scores, samples. ARGV: behind which id, most entries. Gives {{id, score}, ...} and how many samples wait
local found = {}
for _, one in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  table.insert(found, {one[1], one[2][2]})
end
return {found, redis.call('XLEN', KEYS[2])}
"""


def samples_key(model_id: str) -> str:
    """Give the stream of a model's samples."""
    return f"{PREFIX}samples:{model_id}"


def scores_key(model_id: str) -> str:
    """Give the stream of a model's scores."""
    return f"{PREFIX}scores:{model_id}"


class Plan(Document):
    """How the answers of one model are judged, as a gateway tells it."""

    evaluation: Evaluation
    model: str
    """The name that clients know it by."""
    judge: str
    """The name by which the judge is asked."""
    revision: str = Field(default="", exclude_if=is_empty)
    """Of the model, where its manifest says one."""


class Turn(Document):
    """One message of a conversation."""

    role: str
    text: str


class Sample(Document):
    """One answer, and what it answers. What guards of personal data find is replaced in all of its texts."""

    version: Literal[1] = SAMPLES_VERSION
    id: str
    """Of the request."""
    model: str
    """`namespace/name` of the LLMModel that answered."""
    track: str = Field(default="", exclude_if=is_empty)
    """`stable` or `canary`; empty: the model has no canary."""
    revision: str = Field(default="", exclude_if=is_empty)
    prompt: tuple[Turn, ...]
    answer: str
    at: float
    """Unix seconds of the answer's end."""
    seconds: float = Field(default=0.0, ge=0)
    """From the request's arrival to the answer's end."""
    cached: bool = Field(default=False, exclude_if=is_empty)
    """Whether a cache gave the answer."""


class ScoreRecord(Document):
    """What one criterion says of one sample. It holds no text."""

    criterion: str
    rubric: str
    judge: str = ""
    """Id of the model that judged: scores of two are not mixed."""
    prompt: str = Field(default="", exclude_if=is_empty)
    """The beginning of the hash of what it was asked, without the texts."""
    track: str = Field(default="", exclude_if=is_empty)
    revision: str = Field(default="", exclude_if=is_empty)
    value: float | None = Field(default=None, ge=0, le=1)
    """None: there is no score."""
    failed: bool = Field(default=False, exclude_if=is_empty)
    """Where there is none: whether nobody judged, as against a judge that could not tell."""
    at: float
    """Unix seconds of the answer."""


def write_sample(sample: Sample, packing: Packing) -> bytes:
    """Give a sample as it is stored: sealed where there is a key. It is bound to its model."""
    return packing.pack(sample.model, "s", sample.model_dump_json().encode())


def read_sample(model_id: str, data: bytes, packing: Packing) -> Sample:
    """Read a sample of this model. Raises Unreadable, which holds nothing of it."""
    try:
        said = json.loads(packing.unpack(model_id, "s", data))
        sample = Sample.model_validate(said, extra="ignore")
    except (ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("it must be a sample of this version") from None
    if sample.model != model_id:
        raise Unreadable("it must be a sample of this model")
    return sample


def read_plan(data: bytes | str) -> Plan | None:
    """Read a plan; None for what is none, such as that of a newer release."""
    try:
        return Plan.model_validate(json.loads(data), extra="ignore")
    except (ValidationError, ValueError, RecursionError):
        return None


def read_score(data: bytes | str) -> ScoreRecord | None:
    """Read a score; None for what is none."""
    try:
        return ScoreRecord.model_validate(json.loads(data), extra="ignore")
    except (ValidationError, ValueError, RecursionError):
        return None


def put_call(model_id: str, plan: str, sample: bytes, evaluation: Evaluation, *, most: int) -> Call:
    """Put a sample into its stream, and say the plan; with an empty sample only the latter."""
    return Call(
        PUT,
        (samples_key(model_id), PLANS, f"{PREFIX}taken:{model_id}:"),
        (model_id, plan, sample, most, evaluation.retentionSeconds * 1000, evaluation.perHour or 0),
    )


def take_call(
    model_id: str, plan: Plan, consumer: str, *, most: int, idle_ms: int, tries: int, calls_per_hour: int
) -> Call:
    """Take samples to judge: those of consumers that are gone first. The calls of judges that they need are counted."""
    evaluation = plan.evaluation
    return Call(
        TAKE,
        (samples_key(model_id), f"{PREFIX}judged:", DEAD),
        (
            consumer, most, idle_ms, tries, len(evaluation.criteria), calls_per_hour,
            evaluation.retentionSeconds * 1000, model_id,
        ),
    )  # fmt: skip


def scored_call(model_id: str, plan: Plan, entry: str, scores: list[ScoreRecord]) -> Call:
    """Say what became of a sample: its text is gone with that."""
    window = plan.evaluation.window
    most = window.count * len(plan.evaluation.criteria) * MOST_GROUPS
    return Call(
        SCORED,
        (samples_key(model_id), scores_key(model_id)),
        (entry, most, window.seconds * 1000, *(score.model_dump_json() for score in scores)),
    )


MOST_GROUPS: Final = 4
"""Tracks and revisions of a model of which scores are kept apart."""


def renew_call(model_id: str, consumer: str, entries: list[str]) -> Call:
    """Say that a consumer still works on samples."""
    return Call(RENEW, (samples_key(model_id),), (consumer, *entries))


def plans_call() -> Call:
    """Read all plans."""
    return Call(READ_PLANS, (PLANS, DEAD), (PLAN_SECONDS,))


def scores_call(model_id: str, behind: str, most: int) -> Call:
    """Read scores behind an entry (`0-0`: from the first)."""
    return Call(READ_SCORES, (scores_key(model_id), samples_key(model_id)), (behind, most))


def text_of(value: Any) -> str:
    """Give a word of Redis as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
