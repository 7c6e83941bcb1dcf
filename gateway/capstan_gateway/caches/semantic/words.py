"""A question as the words that it is made of, and lists of words whose meaning matters more than their likeness."""

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

_CODE: Final = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_ADDRESS: Final = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\S+|(?:[\w.-]*/){2,}[\w.-]*|[A-Za-z]:\\\S+")
_NUMBER: Final = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:[,\u00a0\u202f']\d{3})+|\d+)(?:\.\d+)?(?![\w.]*\d)")
_WORD: Final = re.compile(r"[A-Za-z]\+\+|[A-Za-z]#|\.[A-Z]{2,}|\w+(?:['’\-.]\w+)*", re.UNICODE)
_SENTENCE: Final = re.compile(r"[.!?:;\n]\s*$")

NEGATIONS: Final = frozenset(
    """not no never none nobody nothing neither nor nowhere without cannot cant dont doesnt didnt isnt arent wasnt werent
    wont wouldnt shouldnt couldnt hasnt havent hadnt mustnt neednt aint non except excluding exclude unless lack lacks
    lacking nicht kein keine keinen ohne nie niemals pas jamais sans sin nunca ningun ninguna senza mai non nao sem
    geen niet zonder""".split()
)
NUMBER_WORDS: Final = {
    word: number
    for number, words in {
        0: "zero", 1: "one once single first", 2: "two twice double second both pair couple", 3: "three thrice triple third",
        4: "four fourth quadruple", 5: "five fifth", 6: "six sixth", 7: "seven seventh", 8: "eight eighth",
        9: "nine ninth", 10: "ten tenth", 11: "eleven eleventh", 12: "twelve twelfth dozen", 13: "thirteen",
        14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty",
        30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety",
        100: "hundred hundreds", 1000: "thousand thousands", 10**6: "million millions", 10**9: "billion billions",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Words for numbers. `half`, `quarter` and the like are units."""
TIMES: Final = frozenset(
    """january february march april may june july august september october november december jan feb mar apr jun jul aug
    sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun today
    tomorrow yesterday tonight now currently next last previous past future this upcoming spring summer autumn winter
    morning afternoon evening night noon midnight weekday weekdays weekend weekends am pm bc ad""".split()
)
UNITS: Final = {
    word: unit
    for unit, words in {
        "s": "second seconds sec secs", "min": "minute minutes min mins", "h": "hour hours hr hrs",
        "d": "day days daily", "wk": "week weeks weekly", "mo": "month months monthly", "y": "year years yearly annual annually",
        "m": "meter meters metre metres", "km": "kilometer kilometers kilometre kilometres km kms",
        "cm": "centimeter centimeters cm", "mm": "millimeter millimeters mm", "mi": "mile miles", "ft": "foot feet ft",
        "in": "inch inches", "yd": "yard yards", "kg": "kilogram kilograms kg kgs kilo kilos", "g": "gram grams",
        "mg": "milligram milligrams mg", "lb": "pound pounds lb lbs", "oz": "ounce ounces oz", "t": "ton tons tonne tonnes",
        "l": "liter liters litre litres", "ml": "milliliter milliliters ml", "gal": "gallon gallons",
        "C": "celsius centigrade", "F": "fahrenheit", "K": "kelvin", "%": "percent percentage",
        "usd": "dollar dollars usd", "eur": "euro euros eur", "gbp": "gbp sterling", "jpy": "yen jpy", "inr": "rupee rupees inr",
        "ct": "cent cents", "B": "byte bytes", "kB": "kilobyte kilobytes kb", "MB": "megabyte megabytes mb",
        "GB": "gigabyte gigabytes gb", "TB": "terabyte terabytes tb", "half": "half halves", "quarter": "quarter quarters",
    }.items()
    for word in words.split()
}  # fmt: skip
SIGNS: Final = {"%": "%", "$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr", "°": "°"}
_POLES: Final = """
    more less|most least|many few|much little|greater lesser|greater smaller|larger smaller|bigger smaller|big small
    large small|higher lower|high low|highest lowest|largest smallest|biggest smallest|longer shorter|long short
    longest shortest|faster slower|fast slow|fastest slowest|better worse|best worst|good bad|older newer|old new
    older younger|oldest youngest|oldest newest|old young|oldest latest|first last|earlier later|early late
    earliest latest|before after|above below|over under|up down|increase decrease|increases decreases
    increased decreased|increasing decreasing|increase reduce|raise lower|gain lose|gain loss|profit loss|win lose
    maximum minimum|max min|maximize minimize|maximise minimise|add remove|add delete|add subtract|plus minus|insert delete
    create delete|create remove|create destroy|make break|open close|opening closing|opened closed|open shut
    start stop|start end|start finish|begin end|beginning ending|begins ends|starts ends|enable disable
    enabled disabled|enabling disabling|on off|activate deactivate|activate cancel|allow deny|allow forbid|allow block
    allow prevent|accept reject|accept decline|approve reject|approve deny|permit forbid|include exclude
    including excluding|with without|in out|inside outside|enter exit|enter leave|arrive depart|arrival departure
    arrives departs|come go|coming going|buy sell|buying selling|bought sold|buyer seller|borrow lend|import export
    importing exporting|upload download|uploading downloading|send receive|sending receiving|sent received|give take
    push pull|login logout|encrypt decrypt|encode decode|compress decompress|zip unzip|install uninstall
    subscribe unsubscribe|lock unlock|load unload|attach detach|connect disconnect|mount unmount|pack unpack|follow unfollow
    save delete|save discard|deposit withdraw|deposit withdrawal|debit credit|income expense|asset liability
    save spend|freeze unfreeze|block unblock|hide show|show hide|expand collapse|ascending descending|asc desc|read write
    reading writing|input output|internal external|public private|local remote|local global|static dynamic|sync async
    synchronous asynchronous|client server|sender receiver|source destination|parent child|left right|north south
    east west|northern southern|eastern western|top bottom|front back|male female|man woman|men women|boy girl
    boys girls|husband wife|father mother|son daughter|brother sister|king queen|his her|he she|him her|mr mrs
    day night|am pm|morning evening|summer winter|hot cold|warm cool|warmer cooler|hotter colder|wet dry|light dark
    light heavy|lighter heavier|thin thick|thinner thicker|wide narrow|wider narrower|deep shallow|near far|nearer farther
    strong weak|stronger weaker|hard soft|hard easy|harder easier|difficult easy|simple complex|rich poor|cheap expensive
    cheaper dearer|cheapest dearest|safe dangerous|safe unsafe|legal illegal|possible impossible|true false|right wrong
    correct incorrect|valid invalid|positive negative|advantages disadvantages|advantage disadvantage|pros cons|pro con
    benefits drawbacks|benefits risks|strengths weaknesses|love hate|like dislike|friend enemy|success failure
    succeed fail|pass fail|alive dead|live die|birth death|born died|healthy unhealthy|sick healthy|lose find|lost found
    remember forget|ask answer|question answer|teach learn|teacher student|employer employee|doctor patient
    landlord tenant|host guest|vertical horizontal|odd even|all none|all some|always never|everyone nobody|same different
    agree disagree|equal unequal|similar different|required optional|mandatory optional|absolute relative
    single married|single multiple|single plural|singular plural|past future|ancient modern|temporary permanent
    hire fire|hired fired|employ dismiss|attack defend|guilty innocent|victory defeat|war peace|rise fall|rising falling
    rose fell|appear disappear|remove install|empty full|fill empty|clean dirty|noisy quiet|loud quiet|sweet sour
    innocent guilty|major minor|majority minority|wholesale retail|supply demand|cause effect|cause prevent
    cause cure|cause treat|speed slow|grow shrink|growth decline|prefix suffix|upper lower|uppercase lowercase|upstream downstream
    inbound outbound|incoming outgoing|forward backward|forwards backwards|clockwise counterclockwise|upgrade downgrade
    promote demote|merge split|join split|join leave|multiply divide|multiplication division|addition subtraction
    mean median|average maximum|average minimum|numerator denominator|row column|rows columns|positive neutral
    """
POLES: Final[dict[str, frozenset[str]]] = {}
"""By word: the words that say the opposite, or one of its kind that it is not."""
for _pair in re.split(r"[|\n]", _POLES):
    if _pair.split():
        _one, _other = _pair.split()
        POLES[_one] = POLES.get(_one, frozenset()) | {_other}
        POLES[_other] = POLES.get(_other, frozenset()) | {_one}
_ASKING: Final = {
    "who": "who", "whom": "who", "whose": "who", "when": "when", "where": "where", "why": "why", "wer": "who",
    "wann": "when", "wo": "where", "warum": "why", "qui": "who", "quand": "when", "pourquoi": "why", "cuando": "when",
    "donde": "where", "dónde": "where", "cuándo": "when", "quién": "who", "quien": "who",
}  # fmt: skip
_HOW: Final = frozenset(
    ("many", "much", "long", "often", "far", "old", "big", "tall", "fast", "high", "deep", "large", "soon", "heavy")
)
STOP: Final = frozenset(
    """a an the of in on at by for to from into onto with within about as is are was were be been being am do does did
    done have has had having will would shall should can could may might must and or but if then else so than that
    this these those there here it its itself i me my mine myself we us our ours you your yours yourself he him his she
    her hers they them their theirs what which who whom whose when where why how please tell explain describe give show
    me let know need want would like help get find kindly hey hi hello thanks thank just also any some really very
    actually exactly possible way ways s t re ve ll d m""".split()
)
"""Words that say little of what is asked; not one of the lists above."""


class Said(NamedTuple):
    """What was found in a question."""

    words: tuple[str, ...]
    """All words in lower case, in their order, but for code and addresses."""
    content: tuple[str, ...]
    """Those of them that say what is asked, without their endings."""
    numbers: tuple[str, ...]
    """In their order, however they are written."""
    units: frozenset[str]
    times: frozenset[str]
    negations: int
    names: frozenset[str]
    """Words that are written as names and identifiers are, in lower case."""
    exact: tuple[str, ...]
    """Code and addresses, as they are."""
    asks: str
    """What kind of answer is wanted: who, when, how many; empty where that is not said."""


def read(text: str) -> Said:
    """Take a question apart."""
    text = unicodedata.normalize("NFKC", text)
    exact = [one.strip("`\n ") for one in _CODE.findall(text)]
    text = _CODE.sub(" ", text)
    exact += [one.rstrip(".,;:!?)") for one in _ADDRESS.findall(text)]
    text = _ADDRESS.sub(" ", text)
    found = [(match.group(), match.start()) for match in _WORD.finditer(text)]
    lower = [word.casefold().replace("’", "'") for word, _ in found]
    plain = [word.replace("'", "") for word in lower]
    return Said(
        words=tuple(lower),
        content=tuple(stem(word) for word in lower if word not in STOP and not word.isdigit()),
        numbers=_numbers(text, lower),
        units=frozenset(UNITS[word] for word in lower if word in UNITS)
        | {unit for sign, unit in SIGNS.items() if sign in text},
        times=frozenset(word for word in lower if word in TIMES),
        negations=sum(word in NEGATIONS or word.endswith("n't") for word in plain if word) + _contracted(lower),
        names=frozenset(_names(text, found)),
        exact=tuple(sorted(exact)),
        asks=_asks(lower),
    )


def stem(word: str) -> str:
    """Give a word without the ending that says number, time or case; a rough one, the same for both sides."""
    word = word.removesuffix("'s").replace("'", "")
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)] + rest
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def _contracted(words: Iterable[str]) -> int:
    return sum(word.endswith("n't") and word.replace("'", "") not in NEGATIONS for word in words)


def _numbers(text: str, words: Iterable[str]) -> tuple[str, ...]:
    placed: list[tuple[int, str]] = []
    for match in _NUMBER.finditer(text):
        try:
            number = Decimal(re.sub(r"[,\u00a0\u202f']", "", match.group().replace("−", "-")))
        except InvalidOperation:
            continue
        placed.append((match.start(), format(number.normalize(), "f")))
    at = 0
    lowered = text.casefold()
    for word in words:
        at = max(lowered.find(word, at), at)
        if word in NUMBER_WORDS:
            placed.append((at, str(NUMBER_WORDS[word])))
    return tuple(number for _, number in sorted(placed))


def _names(text: str, found: Iterable[tuple[str, int]]) -> Iterable[str]:
    for word, at in found:
        begins = at == 0 or _SENTENCE.search(text[:at]) is not None
        inner = word[1:]
        mixed = any(char.isdigit() for char in word) and any(char.isalpha() for char in word)
        if mixed or "_" in word or (len(word) > 1 and (inner != inner.lower() or word[1] in "+#")):
            yield word.casefold()
        elif word[:1].isupper() and not begins and word.casefold() not in STOP and len(word) > 1:
            yield word.casefold().removesuffix("'s").removesuffix("’s")


def _asks(words: list[str]) -> str:
    for number, word in enumerate(words[:8]):
        if word == "how" and number + 1 < len(words) and words[number + 1] in _HOW:
            return f"how {words[number + 1]}"
        if word in _ASKING:
            return _ASKING[word]
        if word in ("what", "which", "how"):
            return ""
    return ""
