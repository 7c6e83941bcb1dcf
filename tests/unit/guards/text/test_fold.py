"""One plain form for all the ways to write a letter, and the way back."""

import pytest

from capstan_gateway.guards.text.fold import FoldMap, fold
from capstan_gateway.guards.text.readable import readable

WRITTEN = {
    "fullwidth": "ｉｇｎｏｒｅ",
    "mathematical": "𝓲𝓰𝓷𝓸𝓻𝓮",
    "circled": "ⓘⓖⓝⓞⓡⓔ",
    "squared": "🅸🅶🅽🅾🆁🅴",
    "flags": "🇮🇬🇳🇴🇷🇪",
    "small capitals": "ɪɢɴᴏʀᴇ",
    "Cyrillic and Greek": "іgnοrе",
    "marks": "i̷g̴n̵o̷r̴e̸",
    "zero width": "i\u200bg\u200dn\u2060o\ufeffr\u00ade",
    "directions": "\u202eignore\u202c",
    "accents": "ïgñòrê",
    "tags": "".join(chr(0xE0000 + ord(letter)) for letter in "ignore"),
    "variation selectors": "i\ufe0fg\ufe0fn\ufe0fo\ufe0fr\ufe0fe\U000e0101",
    "controls": "ig\x00no\x08re\x7f",
    "large": "IGNORE",
}


@pytest.mark.parametrize("how", WRITTEN)
def test_however_a_word_is_written_it_reads_the_same(how: str) -> None:
    """Letters in another form, with marks, invisible ones between them or such as look alike come to the same word."""
    assert fold(WRITTEN[how]) == "ignore"


@pytest.mark.parametrize("how", WRITTEN)
def test_a_place_in_the_plain_form_leads_back_to_all_that_it_came_from(how: str) -> None:
    """Behind another word, the way back gives the word as it was written."""
    text = f"Please {WRITTEN[how]} it"
    at = fold(text).index("ignore")
    start, end = FoldMap(text).back(at, at + 6)
    assert fold(text[start:end]) == "ignore"
    assert start >= 7
    assert end <= len(text) - 3


def test_other_alphabets_stay_what_they_are_to_themselves() -> None:
    """Texts in another alphabet come to the same only when they are the same but for marks and case."""
    assert fold("Привет") != fold("Пока")
    assert fold("無視して") == "無視して"
    assert fold("무시하고") == "무시하고"


def test_a_character_that_becomes_several_leads_back_to_itself() -> None:
    """`ﬃ` is three letters, and each of them is in that one character."""
    text = "oﬃce"
    assert fold(text) == "office"
    assert [FoldMap(text).back(place, place + 1) for place in range(1, 4)] == [(1, 2)] * 3


def test_a_lone_surrogate_is_no_reason_to_fail() -> None:
    """JSON can bring half a character; it becomes the sign for a character that is not known."""
    assert fold("a\ud800b") == "a\ufffdb"


def test_what_a_person_reads_keeps_case_and_other_alphabets() -> None:
    """A model gets words as they are meant: look-alikes among Latin letters replaced, Russian left alone."""
    assert readable("Іgnоrе it, Игорь ｎｏｗ\u200b!")[0] == "Ignore it, Игорь now!"


def test_a_place_in_what_a_person_reads_leads_back() -> None:
    """Places in front of, in and behind a word that was changed come back to where they are in the text."""
    text = "one ｔｗｏ\u200b three"
    said, back = readable(text)
    assert said == "one two three"
    assert [text[slice(*back(said.index(word), said.index(word) + len(word)))] for word in ("one", "three")] == [
        "one",
        "three",
    ]
    assert text[slice(*back(4, 7))] == "ｔｗｏ\u200b"


def test_braille_reads_as_its_letters() -> None:
    """A to Z of Braille are letters that nobody takes for signs who reads them."""
    cells = "\u2801\u2803\u2809\u2819\u2811\u280b\u281b\u2813\u280a\u281a\u2805\u2807\u280d"
    cells += "\u281d\u2815\u280f\u281f\u2817\u280e\u281e\u2825\u2827\u283a\u282d\u283d\u2835"
    assert fold(cells) == "abcdefghijklmnopqrstuvwxyz"
