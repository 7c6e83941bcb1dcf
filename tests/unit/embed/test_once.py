"""What is made when it is first asked for."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from capstan_gateway.embed.once import Once


def test_all_threads_have_one_value() -> None:
    """However many ask first at once, it is made once."""
    made: list[object] = []
    together = Barrier(8)

    def make() -> object:
        made.append(object())
        return made[-1]

    once = Once(make)

    def ask(_: int) -> object:
        together.wait(timeout=30)
        return once.get()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert set(map(id, found)) == {id(made[0])}


def test_who_asks_after_a_failure_tries_again() -> None:
    """A failure is not kept."""
    answers = iter([ValueError("not yet"), "there"])

    def make() -> str:
        answer = next(answers)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    once = Once(make)
    with pytest.raises(ValueError, match="not yet"):
        once.get()
    assert (once.get(), once.get()) == ("there", "there")
