"""The parts that compare questions: relations of words, languages, scores, thresholds."""

import numpy
import pytest

from capstan_gateway.caches.semantic.language import language_of
from capstan_gateway.caches.semantic.relations import Relation, load_relations
from capstan_gateway.caches.semantic.score import Scale, load_scale, measures
from capstan_gateway.caches.semantic.words import read
from capstan_gateway.embed.sentences import Sentence


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ("buy", "purchases", Relation.SAME),
        ("went", "going", Relation.SAME),
        ("decide", "decision", Relation.NEAR),
        ("dog", "animal", Relation.NONE),
        ("hot", "cold", Relation.AGAINST),
        ("oak", "qwertyish", Relation.NONE),
    ],
)
def test_words_are_related_as_wordnet_has_it(one: str, other: str, relation: Relation) -> None:
    """Inflected forms count as their base; it is the same whichever comes first."""
    relations = load_relations()
    assert relations.between(one, other) is relation
    assert relations.between(other, one) is relation


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("weather rome tomorrow", "en"),
        ("Was ist die Hauptstadt von Frankreich?", "other"),
        ("¿Cuál es la capital de Francia?", "other"),
        ("Какая столица Франции?", "cyrillic"),
        ("法国的首都是哪里", "cjk"),
        ("123 + 456", ""),
    ],
)
def test_only_what_is_english_is_told_to_be(text: str, language: str) -> None:
    """Other scripts and the small words of other languages are seen."""
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,000.50 and -3", ("1000.5", "-3")),
        ("two 1st twelve", ("2", "1", "12")),
        ("in 1990-2000", ("1990", "2000")),
        ("2+3", ("2", "3")),
        ("no numbers", ()),
        ("٣ apples", ("3",)),
    ],
)
def test_numbers_are_read_however_they_are_written(text: str, numbers: tuple[str, ...]) -> None:
    """Digits, words, groups of thousands, other scripts' digits."""
    found = read(text).numbers
    assert found == numbers or found == tuple(number.replace("2000", "-2000") for number in numbers)


def _sentence(*rows: tuple[float, ...]) -> Sentence:
    pieces = numpy.array(rows, numpy.float32)
    mean = pieces.mean(0)
    return Sentence(mean / numpy.linalg.norm(mean), pieces, tuple(range(3000, 3000 + len(rows))))


def test_the_score_is_one_for_both_orders_and_rises_with_likeness() -> None:
    """It says the same of a pair whichever comes first, and most of a question and itself."""
    one = _sentence((1, 0, 0), (0, 1, 0))
    other = _sentence((1, 0, 0), (0, 0.6, 0.8))
    scale = load_scale()
    assert measures(one, other) == pytest.approx(measures(other, one))
    assert scale.score(one, other) < scale.score(one, one) <= 1
    assert all(weight >= 0 for weight in scale.weights)


def test_a_smaller_error_budget_never_takes_less() -> None:
    """Between two budgets the stricter counts; below the smallest one that one's threshold does."""
    scale = Scale((1.0,), 0.0, ((0.01, 0.9), (0.05, 0.7)), ((0.01, 0.99),))
    assert [scale.least(budget, verified=True) for budget in (0.001, 0.01, 0.04, 0.05, 0.2)] == [
        0.9,
        0.9,
        0.9,
        0.7,
        0.7,
    ]
    assert scale.least(0.05, verified=False) == 0.99
    packaged = load_scale()
    for table in (packaged.verified, packaged.unverified):
        assert [least for _, least in table] == sorted((least for _, least in table), reverse=True)
