"""Images and versions of the engine."""

from capstan_operator.api.schema import Rule

ENGINE = (
    Rule(
        cel="!has(self.image) || !has(self.version)",
        message="must not be set together with `image`, which has a tag of its own",
        holds=lambda self: self.image is None or self.version is None,
        field_path=".version",
    ),
    Rule(
        cel="self.type != 'OpenAICompatible' || has(self.image)",
        message="is required when `type` is OpenAICompatible",
        holds=lambda self: self.type != "OpenAICompatible" or self.image is not None,
        field_path=".image",
    ),
    Rule(
        cel="self.type != 'Simulator' || !has(self.version)",
        message="must not be set when `type` is Simulator, which comes with the worker's image",
        holds=lambda self: self.type != "Simulator" or self.version is None,
        field_path=".version",
    ),
)
