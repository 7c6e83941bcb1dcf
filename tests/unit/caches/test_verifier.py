"""Which pairs of questions are refused, and by which rule."""

import time

import pytest

from capstan_gateway.caches.semantic.judge import MOST_CHARACTERS
from capstan_gateway.caches.semantic.verifier import differs


@pytest.mark.parametrize(
    ("rule", "one", "other"),
    [
        ("numbers", "What is 3 + 5?", "What is 3 + 6?"),
        ("numbers", "Name three rivers", "Name four rivers"),
        ("numbers", "Is 1,000 more than 1 500?", "Is 1,000 more than 1 501?"),
        ("units", "How long is 5 miles?", "How long is 5 km?"),
        ("units", "Is it sold by the pound?", "Is it sold by the gram?"),
        ("times", "Is the shop open on Monday?", "Is the shop open on Sunday?"),
        ("negation", "Can dogs eat grapes?", "Can dogs not eat grapes?"),
        ("negation", "Which users have a plan?", "Which users have no plan?"),
        ("exact", "What does `git pull` do?", "What does `git push` do?"),
        ("exact", "Summarize https://a.example/x", "Summarize https://a.example/y"),
        ("exact", "What is a * b?", "What is a / b? And a = b?"),
        ("names", "What is the population of Rome?", "What is the population of Oslo?"),
        ("names", "How do I sort a list in Java?", "How do I sort a list in C++?"),
        ("names", "Explain error E1234", "Explain error E1235"),
        ("names", "What is the error E1100?", "What's the error E110?"),
        ("names", "What is new in Kubernetes v1.11?", "What's new in Kubernetes v1.1?"),
        ("names", "How do I reset the router at 10.0.0.11?", "How can I reset the router at 10.0.0.1?"),
        ("names", "Which port does 192.168.1.100 use?", "What port is used by 192.168.1.10?"),
        ("names", "Who directed Alien?", "Who directed Aliens?"),
        ("names", "Which actors are in Alien?", "Aliens: which actors are in it?"),
        ("names", "How do I use Window in X11?", "How do I use Windows in X11?"),
        ("case", "Do they ship to us?", "Do they ship to the US?"),
        ("case", "Do they ship to us?", "do they ship to the us?"),
        ("case", "Can you work with it?", "Can you work with IT?"),
        ("case", "Who recommends vaccines?", "WHO recommends vaccines?"),
        ("exact", "What does the -v flag do?", "What does the -V flag do?"),
        ("case", "How old is Apple?", "How old is an apple?"),
        ("case", "How do I feed Python?", "How do I feed a python?"),
        ("case", "How long does a download of 5 GB take?", "How long does a download of 5 Gb take?"),
        ("case", "Convert 5 m to feet", "Convert 5 M to feet"),
        ("asks", "Who wrote Faust?", "When was Faust written?"),
        ("asks", "Why does it rain?", "Where does it rain?"),
        ("asks", "What campuses are in the county?", "How many campuses are in the county?"),
        ("side", "Who taught Plato?", "Who did Plato teach?"),
        ("side", "What did Plato teach?", "Who taught Plato?"),
        ("word", "How do I sign in?", "How do I sign up?"),
        ("word", "How do I turn up the volume?", "How do I turn down the volume?"),
        ("joint", "List users who like tea and milk", "List users who like tea or milk"),
        ("joint", "List what they sell", "List only what they sell"),
        ("tense", "Who will win the cup?", "Who was the winner of the cup?"),
        ("tense", "Who is the president of France?", "Who was the president of France?"),
        ("tense", "Is Pluto a planet?", "Was Pluto a planet?"),
        ("whose", "What is my name?", "What is your name?"),
        ("length", "Summarize this", "Summarize this long report about the history of european railway companies"),
        ("place", "Show flights from here to there", "Show flights to here from there"),
        ("place", "books by kafka", "books about kafka"),
        ("order", "Does a cat chase a dog?", "Does a dog chase a cat?"),
        ("order", "Is A.B.C. part of X.Y.Z.?", "Is X.Y.Z. part of A.B.C.?"),
        ("more", "Who is the tallest man alive?", "Who is the tallest old man alive?"),
        ("poles", "How do I enable logging?", "How do I disable logging?"),
        ("poles", "how to turn on the lamp", "how to turn off the lamp"),
        ("poles", "Is this plant edible?", "Is this plant inedible?"),
        ("poles", "Which foods are healthy?", "Which foods are unhealthy?"),
        ("poles", "Was the proposal accepted?", "Was the proposal turned down?"),
        ("word", "what is the capital of france", "what is the capital of spain"),
        ("word", "how do i boil an egg", "how do i fry an egg"),
        ("small", "What are you?", "How are you?"),
    ],
)
def test_another_question_is_refused_by_its_rule(rule: str, one: str, other: str) -> None:
    """Each rule finds what it is for, whichever of the two comes first."""
    assert differs(one, other) == rule
    assert differs(other, one) == rule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I reset my password?", "How can I reset my password?"),
        ("How do I reset my password?", "What's the best way to reset my password?"),
        ("What is the capital of France?", "Which city is the capital of France?"),
        ("What are the symptoms of the flu?", "What are flu symptoms?"),
        ("Tell me a joke about cats", "Give me a cat joke"),
        ("How does photosynthesis work?", "Explain how photosynthesis works."),
        ("Who wrote Pride and Prejudice?", "Who is the author of Pride and Prejudice?"),
        ("What time is it in Tokyo?", "What's the current time in Tokyo?"),
        ("In spring, how many classes are offered?", "How many classes are offered in spring?"),
        ("Is 1,000 more than 999?", "is 1000 more than 999"),
        ("I'm looking for a doctor in Rome", "I am looking for a physician in Rome"),
        ("Which dorm is the largest?", "Which dormitory is the largest?"),
        ("What is Trump's age?", "What is the age of Trump?"),
        ("what is the price of two apples", "What is the cost of 2 apples?"),
    ],
)
def test_another_wording_is_refused_by_none(one: str, other: str) -> None:
    """What says the same in other words is left to the score."""
    assert differs(one, other) is None
    assert differs(other, one) is None


@pytest.mark.parametrize(
    "unit",
    ["@", "a@", "\n", "A\n", "/", "a/", "`", "1,", "-", "'", "a.b ", "Ab cd ", "not ", "%d ", "from to ", "A? ", "un"],
)
def test_texts_that_are_made_to_take_long_do_not(unit: str) -> None:
    """Whatever is asked, in all the length that is compared, is judged in milliseconds: a busy second at the most."""
    texts = ["".join(unit.replace("%d", str(at)) for at in range(start, start + MOST_CHARACTERS))[:MOST_CHARACTERS]
             for start in (0, 3)]  # fmt: skip
    begun = time.process_time()
    for one in (*texts, " ".join(f"w{at}" for at in range(200))[:MOST_CHARACTERS]):
        for other in (*texts, " ".join(f"v{at}" for at in range(200))[:MOST_CHARACTERS]):
            differs(one, other)
    assert time.process_time() - begun < 2


def test_questions_of_many_other_words_are_refused_without_comparing_each_with_each() -> None:
    """From some number of other words on nobody can tell."""
    one = "what do you know of " + " ".join(f"thing{'abcdefghijklmnopqrstuvwxyz'[at]}" for at in range(20))
    assert differs(one, one.replace("thing", "stuff")) == "more"
