"""How many tokens a text probably has, without a tokenizer: for calls of which nobody told.

The rule, in whole numbers: four bytes of ASCII make a token, and three bytes of any other UTF-8. Four characters of
English a token is what OpenAI and Google tell their users to reckon with (help.openai.com "What are tokens and how to
count them", ai.google.dev "Understand and count tokens"); tokenizers of this kind work on the bytes of UTF-8
(byte-level BPE), and give other scripts more tokens for each byte: about one for each CJK character, which has three.

`tokens.prompt` says what of a request is text, and what is around it. An estimate is for settling what cannot be
known, never in place of what an engine told of a whole answer.
"""

from typing import Final

ASCII_BYTES_PER_TOKEN: Final = 4
OTHER_BYTES_PER_TOKEN: Final = 3


class TextCount:
    """Bytes of the text that was seen so far. How the text was cut changes nothing, as long as no character was."""

    __slots__ = ("ascii", "other", "pieces")

    def __init__(self) -> None:
        self.pieces = 0
        """Of a stream: how many pieces with text came, each of which is one token at least."""
        self.ascii = 0
        """Bytes of texts that are ASCII. Hot paths add to it themselves."""
        self.other = 0
        """Bytes of the other texts that are not ASCII."""

    def add(self, text: str) -> None:
        """Take a text, or a piece of one."""
        length = len(text)
        if text.isascii():
            self.ascii += length
            return
        # NB: a lone half of a surrogate pair is not UTF-8; engines that cut a character in two send it.
        encoded = text.encode("utf-8", "surrogatepass")
        plain = len(encoded.translate(None, _NOT_ASCII))
        self.ascii += plain
        self.other += len(encoded) - plain

    @property
    def tokens(self) -> int:
        """How many tokens the text has by the rule, and no fewer than it has pieces; 0 only of no text."""
        return max(tokens_of(self.ascii, self.other), self.pieces)


_NOT_ASCII: Final = bytes(range(128, 256))


def tokens_of(ascii_bytes: int, other_bytes: int) -> int:
    """Give the tokens of so many bytes, rounded up."""
    weighed = ascii_bytes * OTHER_BYTES_PER_TOKEN + other_bytes * ASCII_BYTES_PER_TOKEN
    return -(-weighed // (ASCII_BYTES_PER_TOKEN * OTHER_BYTES_PER_TOKEN))


def text_tokens(text: str) -> int:
    """Give the tokens of one text."""
    count = TextCount()
    count.add(text)
    return count.tokens
