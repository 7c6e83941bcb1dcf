"""What the gateway offers: prices, windows, prefixes."""

from capstan_operator.api.rules.cel import empty
from capstan_operator.api.schema import Rule

PRICE = (
    Rule(
        cel="!has(self.cachedInputPerMillion) || double(self.cachedInputPerMillion) <= double(self.inputPerMillion)",
        message="must be less than or equal to `inputPerMillion`",
        holds=lambda self: (
            self.cachedInputPerMillion is None or float(self.cachedInputPerMillion) <= float(self.inputPerMillion)
        ),
        field_path=".cachedInputPerMillion",
    ),
)

SERVING = (
    Rule(
        cel="!has(self.maxOutputTokens) || !has(self.contextWindow) || self.maxOutputTokens <= self.contextWindow",
        message="must be less than or equal to `contextWindow`",
        holds=lambda self: (
            self.maxOutputTokens is None or self.contextWindow is None or self.maxOutputTokens <= self.contextWindow
        ),
        field_path=".maxOutputTokens",
    ),
)

SPEC = (
    Rule(
        cel=f"{empty('prefixes')} || self.model.task in ['chat', 'completion']",
        message="must not be set unless `model.task` is chat or completion",
        holds=lambda self: not self.prefixes or self.model.task in ("chat", "completion"),
        field_path=".prefixes",
    ),
    Rule(
        cel="!has(self.compatibility) || (!has(self.router) && !has(self.cascade))",
        message="must not be set together with `router` or `cascade`: their members say how they want requests",
        holds=lambda self: self.compatibility is None or not self.is_virtual,
        field_path=".compatibility",
    ),
    Rule(
        cel="!has(self.serving) || !has(self.serving.price) || !has(self.serving.price.audioInputPerMinute)"
        " || self.model.task == 'transcribe'",
        message="must not be set unless `model.task` is transcribe: of no other sound anybody tells how long it is",
        holds=lambda self: (
            self.model.task == "transcribe"
            or self.serving.price is None
            or self.serving.price.audioInputPerMinute is None
        ),
        field_path=".serving.price.audioInputPerMinute",
    ),
    Rule(
        cel=("!has(self.serving) || !has(self.serving.tokenizer) || (!has(self.router) && !has(self.cascade))"),
        message="must not be set together with `router` or `cascade`: each of their members has its own",
        holds=lambda self: self.serving.tokenizer is None or not self.is_virtual,
        field_path=".serving.tokenizer",
    ),
)
