"""Tokens of chat templates, which nobody writes who does not want to be taken for somebody else.

By the chat templates that the models' own repositories ship (tokenizer_config.json): ChatML (Qwen, Yi, SmolLM and many
more), Llama 2, 3 and 4, Mistral (all tokenizers), Gemma, Phi, DeepSeek, Command R, gpt-oss (Harmony), Granite, GLM,
InternLM, Baichuan, Falcon, Zephyr, OpenChat, OpenAssistant, Nemotron, Vicuna and Alpaca.
"""

from typing import Final

from capstan_gateway.guards.attacks.pattern import Pattern, words

_ROLE: Final = words(
    "system", "assistant", "developer", "user", "tool", "model", "human", "ipython", "function", "chatbot", "bot"
)
_MARK: Final = (
    r"<\|\s?(?:im_start|im_end|im_sep|endoftext|endofprompt|system|user|assistant|developer|end|eot_id|eom_id|eot|eom|start_header_id|"
    r"end_header_id|header_start|header_end|begin_of_text|end_of_text|python_tag|python_start|finetune_right_pad_id|start_of_turn_token|"
    r"end_of_turn_token|system_token|user_token|chatbot_token|start_thinking|start_response|start_action|start_of_role|end_of_role|"
    r"channel|message|start|return|call|constrain|observation|prompter|end_of_turn|tool_call|tool_calls_section_begin|tool_response|"
    r"begin_of_sentence|end_of_sentence|tool_calls_begin|tool_call_begin|tool_outputs_begin|tool_sep|bot|eoa|eoh|action_start|action_end|"
    r"plugin|interpreter|im_user|im_assistant|im_system|im_middle|startofturn|endofturn|turn|separator|sep|bos|eos)\s?\|>"
    r"|\[/?inst\]|<</?sys>>|\[/?system_prompt\]|\[/?available_tools\]|\[/?tool_calls\]|\[/?tool_results\]|\[/?tool_content\]|\[gmask\]"
    r"|<(?:start|end)_of_turn>|<(?:bos|eos|eod)_token>|<extra_id_[0-9]+>|<special_[0-9]+>|<reserved_10[0-9]>|<eoh>|<eoa>|<sop>"
    r"|<start_function_call>|<start_of_image>"
)

_NEEDS: Final = (
    "<|",
    "inst]",
    "sys>",
    "_prompt]",
    "_tools]",
    "tool_",
    "gmask]",
    "_of_turn>",
    "_token>",
    "<extra_id",
    "<special_",
    "<reserved_",
    "<eo",
    "<sop",
    "<start_",
)

TEMPLATES: Final = (
    Pattern("template-token", _MARK, 0.5, 0.3, 0.72, _NEEDS),
    Pattern("template-token", rf"(?:{_MARK})\s{{0,3}}(?:\w{{1,20}}\s{{0,3}})?(?:{_MARK})", 0.65, 0.4, 0.85, _NEEDS),
    Pattern("template-token", rf"(?:{_MARK})\s{{0,3}}{_ROLE}\s{{0,2}}(?:{_MARK}|\n|:)", 0.72, 0.5, 0.9, _NEEDS),
    Pattern("template-turn", rf"(?:^|\n)\s*#{{2,4}}\s?{words('instructions?', 'response', 'system', 'human', 'assistant', 'user', 'input', 'new instructions?')}\s?#{{0,4}}\s?:", 0.2, 0.15, 0.45, ("##",)),
    Pattern("template-turn", rf"\n\s*(?:{words('human', 'user', 'gpt4 correct user')})\s?:.{{1,300}}\n\s*(?:{words('assistant', 'ai', 'gpt4 correct assistant', 'chat-?gpt')})\s?:", 0.15, 0.15, 0.4, needs=("\nhuman:", "\nuser:", " user:", "human:")),
    Pattern("template-turn", rf"\n\s*{words('system', 'assistant')}\s?:\s?.{{0,40}}\b{words('you', 'ignore', 'new', 'sure', 'here', 'i will', 'override', 'disregard')}\b", 0.3, 0.2, 0.5),
    Pattern("template-turn", r"['\"]role['\"]\s{0,2}:\s{0,2}['\"](?:system|developer|assistant)['\"]", 0.2, 0.1, 0.4),
)  # fmt: skip
