"""How far apart batches start."""

import pytest

from capstan_operator.loaders.model_list import FEW_MODELS
from capstan_operator.loop.spacing import FEW_KEYS, MANY_KEYS, STEP, Spacing


def test_small_batches_without_a_pause_are_spaced_wider_up_to_four_times() -> None:
    """The spacing grows by half with each, and no further than to what a person hardly notices."""
    spacing = Spacing(0.25)
    found = [spacing.after(FEW_KEYS, at_once=True) for _ in range(6)]
    assert found == [0.375, 0.5625, 0.84375, 1.0, 1.0, 1.0]


def test_batches_that_are_no_longer_small_are_spaced_narrower_step_by_step() -> None:
    """So a steady stream comes in batches of a size whose models are fetched by name, not by a LIST of all."""
    spacing = Spacing(0.25)
    for _ in range(3):
        spacing.after(FEW_KEYS, at_once=True)
    found = [spacing.after(FEW_KEYS + 1, at_once=True) for _ in range(5)]
    assert found == pytest.approx([0.5625, 0.375, 0.25, 0.25, 0.25])
    assert FEW_KEYS * STEP < FEW_MODELS


def test_as_many_keys_as_are_not_many_yet_are_spaced_narrower_by_one_step() -> None:
    """The next one more is a large batch."""
    spacing = Spacing(0.25)
    for _ in range(4):
        spacing.after(1, at_once=True)
    assert spacing.after(MANY_KEYS, at_once=True) == pytest.approx(1.0 / STEP)


@pytest.mark.parametrize(("keys", "at_once"), [(1, False), (MANY_KEYS + 1, True)])
def test_a_pause_and_a_large_batch_make_it_narrow_at_once(keys: int, at_once: bool) -> None:
    """Who comes after a pause waits for nobody; a batch of many is worth its LISTs."""
    spacing = Spacing(0.25)
    for _ in range(4):
        spacing.after(1, at_once=True)
    assert spacing.after(keys, at_once=at_once) == 0.25
