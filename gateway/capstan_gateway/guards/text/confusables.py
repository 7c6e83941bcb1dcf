"""Letters that look like Latin ones and are others.

Compatibility forms (fullwidth, mathematical, circled, superscript) are not here: Unicode decomposes them (NFKD). These
are the ones that it does not, by the "confusables" of Unicode Technical Standard 39 as far as they are single letters
that somebody would take for a small Latin one: Cyrillic, Greek, Armenian, Cherokee, the small capitals and turned
letters of the IPA, and the squared ones that are pictures. A text in one of those alphabets is changed as well, and so
are the patterns for it.
"""

import unicodedata
from typing import Final

_ALIKE: Final = {
    "a": "\u0430\u0251\u03b1\u1d00\u0250\u2c6d\u13aa\u237a\ua4ee\u15c5\u2c70",
    "b": "\u0432\u0412\u044c\u0253\u0299\u0185\u13cf\u15af\u1472\u03b2\ua4d0\u0432\u0180\u0183",
    "c": "\u0441\u03f2\u1d04\u0188\u2ca5\u2184\u13df\ua4da\u023c\u00a2",
    "d": "\u0501\u0257\u1d05\u0256\u13e7\u146f\ua4d3\u0111\u217e",
    "e": "\u0435\u04bd\u03b5\u0454\u025b\u1d07\u0259\u01dd\u13ac\ua4f0\u212e\u0247\u0258\u1971",
    "f": "\u0192\ua730\u0584\u03dd\ua4dd\u0493\u017f\u1e9d",
    "g": "\u0261\u0260\u0262\u0581\u050d\u01e5\u13c0\u13b6\ua4d6\u1d83",
    "h": "\u04bb\u0570\u0266\u029c\u043d\u13bb\u13c2\ua4e7\u0127\u0265\u210f",
    "i": "\u0456\u03b9\u0131\u026a\u0269\u0457\u13a5\u04cf\ua4f2\u0268\u1d7b\u0582\u2373\u05d5",
    "j": "\u0458\u03f3\u029d\u1d0a\u0575\u13ab\ua4d9\u0249\u025f",
    "k": "\u043a\u03ba\u1d0b\u0199\u049b\u13e6\ua4d7\u049d\u04c4\u029e",
    "l": "\u04c0\u029f\u026b\u026c\u0142\u019a\u2113\u13de\ua4e1\u01c0\u2223\u026d\u217c",
    "m": "\u043c\u1d0d\u0271\u03fb\u13b7\ua4df\u026f\u217f",
    "n": "\u0578\u0274\u0272\u057c\u0438\u03b7\u03c0\ua4e0\u0273\u019e\u0146\u043f",
    "o": "\u043e\u03bf\u0585\u1d0f\u00f8\u03c3\u2c9f\u0d20\u0275\u13a4\ua4f3\u0254\u0e50\u06c1\u0665\u0966\u0ae6",
    "p": "\u0440\u03c1\u1d18\u01a5\u2ca3\u13e2\ua4d1\u1d29\u00fe\u048f",
    "q": "\u051b\u0563\u0566\u024b\u02a0\u03d9",
    "r": "\u0433\u0280\u027e\u027c\u027d\u13a1\u13d2\ua4e3\u0279\u024d\u0281\u1d26",
    "s": "\u0455\u01bd\ua731\u0282\u13da\u13d5\ua4e2\u0283\u10fd\u0586",
    "t": "\u0442\u03c4\u1d1b\u01ad\u13a2\ua4d4\u0163\u0167\u0288\u0287\u01ab",
    "u": "\u057d\u03c5\u1d1c\u028b\u1200\ua4f4\u028a\u0446\u0289\u00b5\u222a\u22c3",
    "v": "\u03bd\u0475\u1d20\u13d9\ua4e6\u2228\u22c1\u2174\u028c",
    "w": "\u051d\u0461\u03c9\u1d21\u026f\u13b3\ua4ea\u0448\u20a9\u028d\u0561",
    "x": "\u0445\u03c7\u04b3\u13ef\ua4eb\u00d7\u2a2f\u1541\u157d\u2179",
    "y": "\u0443\u03b3\u028f\u01b4\u04af\u1d8c\u213d\ua4ec\u10e7\u0423\u024f\u00a5\u04b1\u028e",
    "z": "\u1d22\u01b6\u0290\u0291\u13c3\ua4dc\u0240\u0437",
    "'": "\u2018\u2019\u201a\u201b\u02bc\u02b9\u02bb\u02bd\u02be\u02bf\u2032\u2035\u00b4\uff07\u05f3\ua78c",
    '"': "\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\u300c\u300d\u300e\u300f\u02ba\u05f4\u3003",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u02d7\u2796\u2e3a\u30fc",
    "_": "\u2581\u02cd\u203f",
    "|": "\u2502\u23d0\u01c1\u05c0\u2758\u2759\u2503",
    "/": "\u2044\u2215\u29f8\u2571",
    "<": "\u2039\u3008\u27e8\u276e\u02c2\u2329",
    ">": "\u203a\u3009\u27e9\u276f\u02c3\u232a",
    "[": "\u3010\u301a\u27e6\u3014",
    "]": "\u3011\u301b\u27e7\u3015",
    "*": "\u2217\u2731\u2022\u22c6\u204e",
    ":": "\u02d0\u2236\ua789\u0589\u05c3",
    ".": "\u3002\u06d4\u0701\u0702",
    ",": "\u3001\u060c",
    "?": "\u061f",
    "!": "\u01c3",
}  # fmt: skip
_NOT_THESE: Final = frozenset("\u30fc\u05d5\u0438\u043f\u0446\u0448\u0437\u043d\u0966\u0ae6\u0665\u06c1\u0e50\u1200")
"""Letters with which whole languages are written, and that nobody mistakes in a word of theirs or puts into ours."""
_LETTERS_IN_ROWS: Final = (0x1F150, 0x1F170, 0x1F1E6)
"""Where A to Z begin: white in a black circle, in a black square, and the halves of flags."""
_BRAILLE: Final = (
    "\u2801\u2803\u2809\u2819\u2811\u280b\u281b\u2813\u280a\u281a\u2805\u2807\u280d"
    "\u281d\u2815\u280f\u281f\u2817\u280e\u281e\u2825\u2827\u283a\u282d\u283d\u2835"
)
"""A to Z."""
_LAST_LATIN: Final = 0x17F
"""Up to here every letter is one of an alphabet of somebody's who writes Latin letters."""


def alike() -> dict[int, str]:
    """Give the letter that each of them is taken for, by code point."""
    table = {ord(other): letter for letter, others in _ALIKE.items() for other in others if other not in _NOT_THESE}
    for first in _LETTERS_IN_ROWS:
        table.update({first + offset: chr(ord("a") + offset) for offset in range(26)})
    table.update({ord(sign): chr(ord("a") + offset) for offset, sign in enumerate(_BRAILLE)})
    return table


def alike_letters() -> dict[int, str]:
    """Give of them the letters that are no letters of Latin alphabets, and the letters in circles and squares.

    For words that are looked for as they are spelt: `ø` is no `o` there, and what is no letter ends a word.
    """
    table = {
        point: letter
        for point, letter in alike().items()
        if letter.isalpha() and (point > _LAST_LATIN and unicodedata.category(chr(point))[0] == "L")
    }
    for first in _LETTERS_IN_ROWS[:-1]:  # Not those of flags, which stand beside words.
        table.update({first + offset: chr(ord("a") + offset) for offset in range(26)})
    return table


def alike_signs() -> dict[int, str]:
    """Give the apostrophes, quotes and hyphens that word processors and models write for those of ASCII."""
    return {ord(other): sign for sign in "'\"-" for other in _ALIKE[sign] if other not in _NOT_THESE}
