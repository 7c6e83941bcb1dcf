"""Which way requests come to an engine."""

from capstan_operator.api.schema import Rule

_OURS = "(!has(self.external) && !has(self.router) && !has(self.cascade))"
_WHY = "no worker takes requests from a queue for it"

SPEC = (
    Rule(
        cel=f"!has(self.dispatch) || {_OURS}",
        message=f"must not be set together with `external`, `router` or `cascade`: {_WHY}",
        holds=lambda self: self.dispatch is None or self.has_engine,
        field_path=".dispatch",
    ),
    Rule(
        cel=f"!has(self.queue) || {_OURS}",
        message=f"must not be set together with `external`, `router` or `cascade`: {_WHY}",
        holds=lambda self: self.queue is None or self.has_engine,
        field_path=".queue",
    ),
    Rule(
        cel="!has(self.queue) || !has(self.dispatch) || self.dispatch != 'Direct'",
        message="must not be set together with `dispatch: Direct`: nothing waits then",
        holds=lambda self: self.queue is None or self.dispatch != "Direct",
        field_path=".queue",
    ),
    Rule(
        cel="!has(self.dispatch) || self.dispatch != 'Queue' || self.model.task != 'transcribe'",
        message="must not be Queue when `model.task` is transcribe: sound is not put into a queue",
        holds=lambda self: self.dispatch != "Queue" or self.model.task != "transcribe",
        field_path=".dispatch",
    ),
    Rule(
        cel="!has(self.queue) || self.model.task != 'transcribe'",
        message="must not be set when `model.task` is transcribe: sound is not put into a queue",
        holds=lambda self: self.queue is None or self.model.task != "transcribe",
        field_path=".queue",
    ),
    Rule(
        cel="!has(self.queue) || !has(self.queue.batch) || self.engine.type == 'OpenAICompatible'",
        message="must not be set unless `engine.type` is OpenAICompatible: the others put requests together themselves",
        holds=lambda self: self.queue is None or self.queue.batch is None or self.engine.type == "OpenAICompatible",
        field_path=".queue.batch",
    ),
    Rule(
        cel="!has(self.queue) || !has(self.queue.batch) || self.model.task in ['embed', 'score']",
        message="must not be set unless `model.task` is embed or score",
        holds=lambda self: self.queue is None or self.queue.batch is None or self.model.task in ("embed", "score"),
        field_path=".queue.batch",
    ),
)
