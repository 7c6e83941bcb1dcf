"""Where credentials are kept: none is lost, none moves without need, and none is ever without a value."""

from hypothesis import given
from hypothesis import strategies as st

from capstan_operator.gateway_config.credential_rules import Held
from capstan_operator.gateway_config.credential_shards import (
    build_secret,
    gaining,
    place,
    read_held,
    size_of,
)

FILES = st.sampled_from([f"ns.model-{number}..{number:012x}" for number in range(12)])
SIZES = st.dictionaries(FILES, st.integers(1, 60))
WHERE = st.dictionaries(FILES, st.integers(0, 5))


@given(sizes=SIZES, where=WHERE, taken=st.integers(0, 100))
def test_nothing_is_too_full_and_nothing_is_left_out_while_there_is_room(
    sizes: dict[str, int], where: dict[str, int], taken: int
) -> None:
    """Each Secret stays below its bound; a file is in none only when it fits into none."""
    placed = place(sizes, where, taken=taken, most_bytes=100, most_shards=4)
    used = [sum(sizes[file] for file, shard in placed.items() if shard == number) for number in range(4)]
    assert placed.keys() <= sizes.keys()
    assert used[0] + taken <= 100 or not used[0]
    assert all(one <= 100 for one in used)
    room = [100 - taken - used[0], *(100 - one for one in used[1:])]
    assert all(sizes[file] > left for file in sizes.keys() - placed.keys() for left in room)


@given(sizes=SIZES, where=WHERE)
def test_placing_again_moves_nothing(sizes: dict[str, int], where: dict[str, int]) -> None:
    """What was placed stays where it is: at rest nothing is written."""
    placed = place(sizes, where, most_bytes=100, most_shards=4)
    assert place({file: sizes[file] for file in placed}, placed, most_bytes=100, most_shards=4) == placed


@given(sizes=SIZES, more=st.dictionaries(FILES, st.integers(1, 60)))
def test_a_further_credential_moves_no_other(sizes: dict[str, int], more: dict[str, int]) -> None:
    """New ones go where room is; those that are there stay."""
    before = place(sizes, {}, most_bytes=200, most_shards=6)
    after = place({**more, **sizes}, before, most_bytes=200, most_shards=6)
    assert {file: after.get(file) for file in before} == before


@given(sizes=SIZES, where=WHERE)
def test_a_move_is_written_where_it_goes_to_before_where_it_comes_from(
    sizes: dict[str, int], where: dict[str, int]
) -> None:
    """In whatever order the Secrets are then written, a file is in one of them at every moment."""
    before = {file: shard for file, shard in where.items() if file in sizes and shard < 4}
    placed = place(sizes, before, most_bytes=100, most_shards=4)
    secrets = {number: {file for file, shard in before.items() if shard == number} for number in range(4)}
    kept = before.keys() & placed.keys()

    def complete() -> bool:
        return kept <= set().union(*secrets.values())

    for number in gaining(before, placed):
        secrets[number] |= {file for file, shard in placed.items() if shard == number}
        assert complete()
    for number in range(3, -1, -1):
        secrets[number] = {file for file, shard in placed.items() if shard == number}
        assert complete()


@given(values=st.dictionaries(FILES, st.booleans()))
def test_a_secret_says_what_was_put_into_it(values: dict[str, bool]) -> None:
    """Values, and which of them came without a label, are read back as they were written; sizes are no less."""
    held = {file: Held("dmFsdWU=", unlabelled=unlabelled) for file, unlabelled in values.items()}
    secret = build_secret("s", "n", held)
    assert read_held(secret) == held
    assert sum(size_of(file, one) for file, one in held.items()) >= len(str(secret["data"])) - 2
