"""Text that a model is shown: whatever stands in it, it does not end what it stands in."""

import re
from typing import Final

_MARKS: Final = re.compile(
    r"<\|"  # Tokens of most families: <|im_start|>, <|eot_id|>
    r"|<(?=/?s>|/?start_of_turn|/?end_of_turn|/?bos>|/?eos>|begin |end |begin_|end_|/?think)"
    r"|\[(?=/?INST\])"
    r"|<(?=<)|(?<=<)<",
    re.IGNORECASE,
)


def disarmed(text: str) -> str:
    """Give a text in which no mark of a prompt is left: each has a space behind its first character."""
    return _MARKS.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", text)
