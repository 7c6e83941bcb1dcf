"""Names of what is stored."""

import re

import pytest

from capstan_gateway.identity.principal import EVERYBODY
from capstan_gateway.stores.keys import is_kept_id, new_number, response_of_item, tenant_prefix


def test_all_keys_of_a_tenant_are_in_one_slot() -> None:
    """What is between the first braces is the tenant: a Redis Cluster keeps all keys with it together."""
    found = re.fullmatch(r"capstan:responses:\{([^{}]+)\}:", tenant_prefix(EVERYBODY))
    assert found is not None
    assert found.group(1) == "t-everybody"


@pytest.mark.parametrize("tenant", ["", "a}b", "{x}", "team one", "ö", "x" * 65, "a:b", "a\nb", "\ud800"])
def test_odd_tenants_become_hashes(tenant: str) -> None:
    """A tenant's name that means something in a key, or is long, is never a part of it."""
    assert re.fullmatch(r"capstan:responses:\{h-[0-9a-f]{32}\}:", tenant_prefix(tenant))


def test_no_two_tenants_share_keys() -> None:
    """Another tenant has another prefix, also one that is named like the hash of another one."""
    odd = tenant_prefix("a}b")
    likeness = odd.split("{h-")[1].split("}")[0]
    names = ["a", "A", "a.b", "a-b", "a}b", "a}c", likeness, f"h-{likeness}", f"t-{likeness}"]
    assert len({tenant_prefix(name) for name in names}) == len(names)


def test_new_ids_are_ours_and_cannot_be_guessed() -> None:
    """A new id is known as one of ours, and has 160 random bits."""
    numbers = {new_number() for _ in range(100)}
    assert len(numbers) == 100
    assert all(is_kept_id(f"resp_{number}") and len(number) == 42 for number in numbers)


@pytest.mark.parametrize(
    "response_id",
    [
        "", "resp_", "resp_1", "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "resp_cs" + "0" * 39,
        "resp_cs" + "0" * 41, "resp_cs" + "0" * 40 + "\n", "resp_cs" + "A" * 40, "RESP_cs" + "0" * 40, "index",
        "resp_cs" + "0" * 39 + "}",
    ],
)  # fmt: skip
def test_other_ids_are_not_looked_for(response_id: str) -> None:
    """Ids of hosted APIs, and what was never given out here, are told by their form."""
    assert not is_kept_id(response_id)


@pytest.mark.parametrize(
    ("item_id", "known"),
    [
        (f"msg_cs{'a' * 40}_0", True), (f"fco_cs{'a' * 40}_i12", True), (f"rs_cs{'a' * 40}_3", True),
        (f"msg_cs{'a' * 40}", False), (f"msg_cs{'a' * 39}_0", False), (f"msg_cs{'g' * 40}_0", False),
        ("rs_68af4030baa48193b0b43b4c2a176a1a0e6967589f080e78", False), (f"_cs{'a' * 40}_0", False), ("", False),
        (f"msg_cs{'a' * 40}_0\n", False), (f"msg_cs{'a' * 40}_{'1' * 5000}", False),
    ],
)  # fmt: skip
def test_an_item_says_of_which_response_it_is(item_id: str, known: bool) -> None:
    """Ids of items that were given out here lead to their response; others lead nowhere."""
    assert response_of_item(item_id) == (f"resp_cs{'a' * 40}" if known else None)
