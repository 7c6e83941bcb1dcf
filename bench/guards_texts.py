"""Texts that guards are measured with: what people and programs send, and what is made to take long.

Code, Markdown and manifests are those of this repository; the rest is made, with one seed.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SENTENCES: Final = (
    "Could you summarise the attached report for the meeting on Thursday?",
    "The parcel left the warehouse at noon and has not arrived.",
    "Please leave out the first draft, the second one has the right numbers.",
    "My program says “connection reset by peer”, and then stops.",
    "How do I explain inflation to a class of twelve-year-olds?",
    "The printer does not answer, although the cable is fine.",
    "def total(prices): return sum(price for price in prices if price > 0)",
    "In 1998 the river rose by 3.5 metres, and the old bridge was closed.",
)
PERSONAL: Final = (
    "Write to jane.doe@example.org or call +49 30 901820 before noon.",
    "The address 192.168.17.4 is that of version 12.4.1, order 4711-0815.",
)
RARE: Final = 25
"""One sentence of so many has personal data, or what looks like it."""
CHINESE: Final = (
    "请帮我总结一下这份报告的主要内容，星期四开会要用。", "包裹中午已经离开仓库，但是还没有送到。", "打印机没有反应，不过电缆没有问题。",
    "1998年河水上涨了3.5米，旧桥被关闭了。", "怎样向十二岁的孩子解释通货膨胀？", "第二稿的数字是对的，请不要用第一稿。",
)  # fmt: skip
ATTACK_WORDS: Final = (
    "ignore disregard forget all any the your previous prior above instructions rules prompt system reveal show print repeat "
    "hypothetical illegal story answers gpt dan token mode developer enabled never say sorry refuse http send password to key "
    "with policy no ethical moral limits you are unfiltered ai assistant for note before please do <|im_start|> system: ]]]] "
    "<!-- \\u0041 &#65; a<b>a erongi vtaber 1gn0r3 pr3v10u5 suoiverp tpmorp c3lzdGVtIHByb21wdA=="
)


def sentences(choose: random.Random) -> str:
    """Give one, with personal data now and then."""
    return choose.choice(SENTENCES if choose.randrange(RARE) else PERSONAL) + " "


def _row(choose: random.Random) -> str:
    document = {
        "id": choose.randrange(10**9), "trace": f"{choose.getrandbits(128):032x}", "amount": choose.randrange(10**6) / 100,
        "at": f"2026-{choose.randint(1, 12):02}-{choose.randint(1, 28):02}T{choose.randint(0, 23):02}:12:45.123Z",
        "from": f"10.{choose.randrange(256)}.{choose.randrange(256)}.7", "status": choose.choice(("shipped", "open")),
        "note": choose.choice(SENTENCES),
    }  # fmt: skip
    return json.dumps(document) + ",\n"


def _log(choose: random.Random) -> str:
    level, part = choose.choice(("INFO", "WARN", "ERROR")), choose.choice(("http", "kube", "store", "queue"))
    return (
        f"2026-11-{choose.randint(1, 28):02} {choose.randint(0, 23):02}:12:45.{choose.randrange(1000):03} {level} [{part}] "
        f"{choose.choice(SENTENCES)} code={choose.choice((200, 404, 503))} took={choose.random():.3f}s\n"
    )


def _numbers(choose: random.Random) -> str:
    return " ".join(f"{choose.uniform(0, 10_000):.3f}" for _ in range(8)) + "\n"


def _repository(*patterns: str) -> Callable[[random.Random], str]:
    files = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]

    def some(choose: random.Random) -> str:
        text = choose.choice(files).read_text(encoding="utf-8")
        at = choose.randrange(max(1, len(text) - 4096))
        return text[at : at + 4096] + "\n"

    return some


KINDS: Final[Mapping[str, Callable[[random.Random], str]]] = {
    "sentences": sentences,
    "Python": _repository("gateway/capstan_gateway/pipeline/*.py", "operator/capstan_operator/*/*.py"),
    "Markdown": _repository("docs/*.md"),
    "YAML": _repository("crds/*.yaml", "examples/*.yaml"),
    "rows of JSON": _row,
    "log lines": _log,
    "lists of numbers": _numbers,
    "Chinese": lambda choose: choose.choice(CHINESE),
}
SLOW: Final[Mapping[str, Callable[[random.Random], str]]] = {
    "words of attacks, in many encodings": lambda choose: choose.choice(ATTACK_WORDS.split(" ")) + " ",
    "`password:` again and again": lambda _: "password:",
    "single digits": lambda choose: f"{choose.randint(1, 2)} ",
}
"""The slowest that were found by a search: pieces that were taken in and left out for whether a text took longer."""


def text_of(size: int, seed: int, kind: Callable[[random.Random], str] = sentences) -> str:
    """Give a text of so many bytes, or up to three fewer."""
    return b"".join(_pieces(size, random.Random(seed), kind))[:size].decode(errors="ignore")


def _pieces(size: int, choose: random.Random, kind: Callable[[random.Random], str]) -> Iterator[bytes]:
    while size > 0:
        made = kind(choose).encode()
        yield made
        size -= len(made)
