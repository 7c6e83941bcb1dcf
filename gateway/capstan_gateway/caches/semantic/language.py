"""In which script a question is written, and whether it is English: what the packaged embeddings know. Pure, a guess.

A question that is not English is compared with nothing: vectors of a model that has learned English say little of it.
"""

import re
import unicodedata
from typing import Final

ENGLISH: Final = "en"
_WORD: Final = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_MOST: Final = 400
"""Characters of a question that are looked at."""
_OTHERS: Final = frozenset(
    """der das und ist nicht ein eine einen einem wie wer wo wann warum welche welcher welches wieviel sind den dem mit
    von zu auf für im wird wurde ich er sie wir hat haben kann gibt bei nach aus oder aber auch noch zum zur les une
    que qui quoi quel quelle quels quelles dans pour avec sur pas ce cette ces je tu il elle nous vous ils sont et
    ou où au aux combien comment pourquoi quand los las una unos por para qué cuál cuáles cómo cuándo dónde cuántos
    cuántas del lo gli della delle che è sono chi cosa quale quanto quanti quando perché di um uma em não são
    quantos qual quais com como het een wat hoe waar zijn voor niet jest się nie jak kto czy są ve bir ne kim nasıl
    kaç bu da och är som på att det vad hur vem""".split()
)
"""Small words of other languages that are none in English, nor parts of names."""
_ENGLISH: Final = frozenset(
    """the a an of is are was were do does did to in on for with what which who whom whose when where why how can could
    should would will i my me you your it its this that these those and or not from by at be have has had there if
    than give show list find tell explain name write describe many much get make about any some all most""".split()
)


def language_of(text: str) -> str:
    """Give `en`, or another word for what it is written in: what is of two of these is not compared."""
    part = text[:_MOST]
    letters = [char for char in part if char.isalpha()]
    if not letters:
        return ""
    foreign = [char for char in letters if not char.isascii()]
    if len(foreign) > len(letters) // 4:
        return unicodedata.name(foreign[len(foreign) // 2], "unknown").split()[0].lower()
    words = [word.casefold() for word in _WORD.findall(part.replace("’", "'"))]
    others = sum(word in _OTHERS for word in words)
    if others > sum(word in _ENGLISH for word in words):
        return "other"
    return ENGLISH if len(foreign) <= len(letters) // 10 else "other"
