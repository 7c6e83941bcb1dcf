"""What counts as a key in the file, or the Secret, of the admin pages' credential: the same for who asks for it, who
makes it and who sends it."""

from typing import Final

LEAST_KEY_BYTES: Final = 16


def key_words(text: bytes) -> list[bytes]:
    """Give the words of a file that can be keys: they are long enough, and could be a header's value."""
    return [
        word for word in text.split() if len(word) >= LEAST_KEY_BYTES and all(0x21 <= byte <= 0x7E for byte in word)
    ]
