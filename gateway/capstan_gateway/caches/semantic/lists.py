"""Lists of words whose meaning matters more than their likeness: what they say is compared, and not how near they are."""

import re
from typing import Final

NEGATIONS: Final = frozenset(
    """not no never none nobody nothing neither nor nowhere without cannot cant dont doesnt didnt isnt arent wasnt
    werent wont wouldnt shouldnt couldnt hasnt havent hadnt mustnt neednt aint non except excluding exclude unless
    lack lacks lacking nicht kein keine keinen ohne nie niemals pas jamais sans sin nunca ningun ninguna senza mai
    non nao sem geen niet zonder hardly barely scarcely rarely seldom unable""".split()
)
NUMBER_WORDS: Final = {
    word: number
    for number, words in {
        0: "zero", 2: "two twice double", 3: "three thrice triple third",
        4: "four fourth quadruple", 5: "five fifth", 6: "six sixth", 7: "seven seventh", 8: "eight eighth",
        9: "nine ninth", 10: "ten tenth", 11: "eleven eleventh", 12: "twelve twelfth dozen", 13: "thirteen",
        14: "fourteen", 15: "fifteen", 16: "sixteen", 17: "seventeen", 18: "eighteen", 19: "nineteen", 20: "twenty",
        30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety",
        100: "hundred hundreds", 1000: "thousand thousands", 10**6: "million millions", 10**9: "billion billions",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Words for numbers. `half`, `quarter` and the like are units; `one`, `first`, `second`, `both` mean other things too."""
TIMES: Final = frozenset(
    """january february april june july august september october november december monday tuesday wednesday thursday
    friday saturday sunday today tomorrow yesterday tonight spring summer autumn winter morning afternoon evening
    night noon midnight weekday weekdays weekend weekends bc""".split()
)
TIME_NAMES: Final = frozenset(
    """March May Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun Fall AM PM AD BC""".split()
)
"""Those that are other words too where they are not written like this."""
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
    more less|most least|most fewest|total average|highest least|many few|much little|greater lesser|greater smaller|larger smaller|bigger smaller|big small
    large small|higher lower|high low|highest lowest|largest smallest|biggest smallest|longer shorter|long short
    longest shortest|faster slower|fast slow|fastest slowest|better worse|best worst|good bad|older newer|old new
    older younger|oldest youngest|oldest newest|old young|oldest latest|first last|earlier later|early late
    earliest latest|before after|above below|over under|up down|increase decrease|increases decreases
    increased decreased|increasing decreasing|increase reduce|raise lower|gain lose|gain loss|profit loss|win lose
    maximum minimum|max min|maximize minimize|maximise minimise|add remove|add delete|add subtract|plus minus|insert delete
    create delete|create remove|create destroy|make break|open close|opening closing|opened closed|open shut
    start stop|start end|start finish|begin end|beginning ending|begins ends|starts ends|enable disable
    enabled disabled|enabling disabling|on off|activate deactivate|activate cancel|allow deny|allow forbid|allow block
    allow prevent|accept reject|accepted rejected|start quit|sleep wake|accept decline|approve reject|approve deny|permit forbid|include exclude
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
    next last|next previous|upcoming past|mean median|average maximum|average minimum|numerator denominator|for against|ceo cfo|ceo cto|bull bear|bullish bearish|overweight underweight|overrated underrated|introvert extrovert|introverts extroverts|offline online|hardware software|frontend backend|debit withdrawal|predator prey|artery vein|acid base|acids bases|proton electron|vowel consonant|singular dual|odd prime|liquid solid|liquid gas|solid gas|melt freeze|melting freezing|melting boiling|freezing boiling|horizontal diagonal|perimeter area|radius diameter|sum product|sum difference|mother daughter|father son|uncle aunt|nephew niece|bride groom|actor actress|prince princess|cat dog|cats dogs|red blue|red green|blue green|black white|white brown|row column|rows columns|positive neutral
    """
POLES: Final[dict[str, frozenset[str]]] = {}
"""By word: the words that say the opposite, or one of its kind that it is not."""
for _pair in re.split(r"[|\n]", _POLES):
    if _pair.split():
        _one, _other = _pair.split()
        POLES[_one] = POLES.get(_one, frozenset()) | {_other}
        POLES[_other] = POLES.get(_other, frozenset()) | {_one}
ASKING: Final = {
    "who": "who", "whom": "who", "whose": "who", "when": "when", "where": "where", "why": "why", "wer": "who",
    "wann": "when", "wo": "where", "warum": "why", "qui": "who", "quand": "when", "pourquoi": "why", "cuando": "when",
    "donde": "where", "d\u00f3nde": "where", "cu\u00e1ndo": "when", "qui\u00e9n": "who", "quien": "who",
}  # fmt: skip
PHRASES: Final = {
    "turn off": "disable", "turned off": "disabled", "turning off": "disabling", "switch off": "disable",
    "turn on": "enable", "turned on": "enabled", "turning on": "enabling", "switch on": "enable",
    "turn down": "reject", "turned down": "rejected", "shut down": "stop", "shutting down": "stopping",
    "turn up": "raise", "turned up": "raised", "turning up": "raising", "sign up": "register", "signed up": "registered",
    "log out": "logout", "log in": "login", "sign out": "logout", "sign in": "login", "log off": "logout",
    "fall asleep": "sleep", "stay awake": "wake", "give up": "quit", "put off": "postpone", "get rid of": "remove",
    "set up": "install", "take out": "remove", "in favor of": "for", "in favour of": "for", "no longer": "not",
    "at least": "minimum", "at most": "maximum", "as well as": "and", "number of": "count",
}  # fmt: skip
"""Words that say together what another one says alone."""
ALIKE: Final = tuple(
    frozenset(words.split())
    for words in (
        "a an the this that these those some any my our your",
        "is are was were be am 's",
        "do does did",
        "i we you one they",
        "can could may might would should will",
        "what which",
        "of in at on for about to with by",
        "and or but so then",
        "please kindly just",
        "has have had",
        "me us",
        "want would like need",
    )
)
"""Small words that one may say for the other."""
MODALS: Final = frozenset("do does can could should would may might did".split())
"""Those of which a question how to do something may take any."""
OF: Final = frozenset("of about for in on".split())
"""Prepositions that a compound does without: a joke about cats is a cat joke."""
ARTICLES: Final = frozenset("a an the my your his her our their this that its each every all any".split())
WHETHER: Final = frozenset("""is are was were do does did has have had will would should may might must""".split())
"""A question that begins with one of these is answered by yes or no."""
AMOUNTS: Final = frozenset(
    "many much count number numbers amount total quantity percent percentage price cost costs sum average fee rate".split()
)
"""Words by which an amount is asked for."""
EXTREMES: Final = {
    word: name
    for name, words in {
        "most": "most highest largest greatest biggest maximum max top", "least": "least fewest lowest smallest minimum min",
        "average": "average mean avg", "count": "count",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Words that say which of many, or what of all of them; others in `-est` stand for themselves."""
HOW: Final = frozenset(
    ("many", "much", "long", "often", "far", "old", "big", "tall", "fast", "high", "deep", "large", "soon", "heavy")
)
AWAY: Final = {
    frozenset(pair.split())
    for pair in """from to|from into|from toward|from for|by about|by for|by to|by against|to about|with without|with against
    for against|before after|over under|above below|from about|into out|onto off|on off|up down|inside outside
    until after|until since|since before|to without|in without|on under|under on""".replace("\n", "|").split("|")
}
"""Pairs of prepositions that put what follows into another place."""
LEADING: Final = frozenset("""from to into by than against before after over without""".split())
"""Prepositions that say who does it to whom, and from where to where."""
PREPOSITIONS: Final = LEADING | frozenset(word for pair in AWAY for word in pair)
WEAK: Final = frozenset(
    """current one ones pair couple best good way ways thing things kind kinds type types sort sorts person people someone
    somebody anyone anybody everyone currently now today's present list name names named called mean means meaning
    definition define difference differences use used using make makes made work works happen happens start begin
    easy easiest simple quick quickly quickest fast fastest better great main top different various certain tips advice
    suggestion suggestions example examples possible able everything something anything lot lots many much several
    even ever still already usually really return state display provide total whole entire given okay regards
    regarding concerning considered available""".split()
)
"""Words that say something, and seldom what the question is about."""
STOP: Final = frozenset(
    """needed needs wanted wants all each every a an the of in on at by for to from into onto with within about as is are was were be been being am do does did
    done have has had having will would shall should can could may might must and or but if then else so than that
    this these those there here it its itself i me my mine myself we us our ours you your yours yourself he him his
    she her hers they them their theirs what which who whom whose when where why how please tell explain describe
    give show me let know need want would like help get find kindly hey hi hello thanks thank just also any some
    really very actually exactly possible way ways s t re ve ll d m""".split()
)
"""Words that say little of what is asked; not one of the lists above."""
