"""Words of the APIs that requests are written in: no guard need see them, an audit record may say them. Pure."""

from typing import Final

_NAMES: Final = """
    add_generation_prompt additionalProperties allOf allowed_tools annotations anyOf arguments audio audio_url
    auto best_of bytes cache_control cached_content capstan chat_template chat_template_kwargs choices citations code
    completion const content continue_final_message custom data data_1 data_2 default definitions delta
    description detail dimensions
    documents echo effort encoding_format enum enable_thinking error examples exclusiveMaximum exclusiveMinimum
    file file_data file_id filename finish_reason format frequency_penalty function function_call functions grammar
    guided_choice guided_decoding_backend guided_grammar guided_json guided_regex guided_whitespace_pattern id
    ignore_eos image image_url include_stop_str_in_output include_usage index input input_audio input_file input_image
    instruction items json_schema json_object keep_alive length_penalty logit_bias logprobs max_completion_tokens
    max_tokens maxItems maxLength maximum message messages metadata min_p min_tokens minItems minLength minimum
    mm_processor_kwargs modalities mode model multipleOf n name not nullable num_ctx oneOf options output
    parallel_tool_calls parameters pattern patternProperties prediction prefix prefixItems presence_penalty priority
    prompt prompt_cache_key prompt_logprobs properties propertyNames provider queries query quality reasoning
    reasoning_content reasoning_details reasoning_effort reasoning_text redacted refusal repetition_penalty required
    response_format return_documents return_tokens_as_token_ids role safety_identifier schema seed service_tier size
    skip_special_tokens source spaces_between_special_tokens stop stop_token_ids store stream stream_options strict
    structured_outputs suffix summary syntax temperature text text_1 text_2 thinking thinking_budget title token_ids
    tokens tool_call_id tool_calls tool_choice tool_use_id tools top_k top_logprobs top_n top_p transforms
    truncate_prompt_tokens truncation type uniqueItems url usage use_beam_search user user_id verbosity video video_url
    voice web_search_options weight
    """
NAMES: Final = frozenset(_NAMES.split()) | {"$ref", "$defs", "$schema", "$id"}
"""Of fields, in the APIs and in JSON Schema."""

_WORDS: Final = """
    system developer user assistant tool function text image_url input_audio file audio video_url audio_url image
    json_schema json_object auto none required any low medium high minimal xhigh default priority flex standard
    object string number integer boolean array null float base64 enabled disabled adaptive custom regex grammar lark
    refusal input_text output_text message function_call function_call_output
    """
WORDS: Final = frozenset(_WORDS.split())
"""Values that are words of the APIs."""

ASIDE: Final = frozenset(("type", "role", "detail", "format", "id", "index", "name", "cache_control", "filename"))
"""Fields of a part of a message that are not what it says."""

MEDIA: Final = {
    "image_url": ("image_url",), "input_image": ("image_url", "file_id"), "image": ("image", "image_url", "source"),
    "input_audio": ("input_audio",), "audio_url": ("audio_url",), "audio": ("audio", "audio_url", "source"),
    "video_url": ("video_url",), "video": ("video", "video_url", "source"), "file": ("file",),
    "input_file": ("file_data", "file_url", "file_id"), "document": ("source", "file"),
    "image_embeds": ("image_embeds",), "audio_embeds": ("audio_embeds",),
}  # fmt: skip
"""By the type of a part of a message, in which of its fields there may be something that nobody can read."""
UNTYPED: Final = frozenset(
    (
        "image_url", "audio_url", "video_url", "input_audio", "image_embeds", "audio_embeds", "image", "audio", "video",
    )
)  # fmt: skip
"""The same of a part without a type: engines take it for what its fields say."""
TENSORS: Final = frozenset(("image_embeds", "audio_embeds"))
"""Of these, what is no text at all."""
DATA: Final = frozenset(("data", "file_data", "image_embeds", "audio_embeds", "b64_json"))
ADDRESSES: Final = frozenset(("url", "image_url", "audio_url", "video_url", "file_url", "file_id", "image", "video"))

NUMBERS: Final = frozenset(
    (
        "stop", "stop_token_ids", "allowed_token_ids", "bad_words_token_ids", "banned_tokens", "eos_token_id",
        "eos_token_ids", "label_token_ids", "logit_bias", "logprob_token_ids", "suppress_tokens",
    )
)  # fmt: skip
"""Fields of a request that may be lists of numbers, and are no prompt: what ends or steers an answer."""

TEXT_FILES: Final = frozenset(
    (
        "application/json", "application/ld+json", "application/x-ndjson", "application/xml", "application/xhtml+xml",
        "application/javascript", "application/x-javascript", "application/yaml", "application/x-yaml",
        "application/toml", "application/sql", "application/csv", "application/rtf", "application/x-sh",
        "message/rfc822",
    )
)  # fmt: skip
"""Media types that are text, beside text/*."""
