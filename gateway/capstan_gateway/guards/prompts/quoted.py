"""Text that a model is shown: whatever stands in it, it does not end what it stands in."""

import re
from typing import Final

_MARKS: Final = re.compile(
    r"<[|\uff5c]"  # Tokens of most families: <|im_start|>, <|eot_id|>; DeepSeek's bar is a wide one
    r"|<(?=/?s(?:ys)?>|/?[a-z]{2,12}_of_[a-z]{2,12}>|begin |end |begin_|end_|/?think)"
    r"|<(?=/?(?:bos|eos|eod|eoh|eoa|sop|eop|pad|unk|mask|turn|channel)[_>|]|(?:extra_id|special|reserved|unused)_?[0-9])"
    r"|<(?=/?tool_(?:call|response)|start_function|start_image|0x[0-9a-f]{2}>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_[A-Z]{4,8}|THINK|gMASK|IMG|PREFIX|MIDDLE|SUFFIX)\])"
    r"|<(?=<)|(?<=<)<",
    re.IGNORECASE,
)


def disarmed(text: str) -> str:
    """Give a text in which no mark of a prompt is left: each has a space behind its first character."""
    return _MARKS.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
