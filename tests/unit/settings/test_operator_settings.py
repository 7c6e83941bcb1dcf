"""The operator's settings about names and the brake: read, or refused with the name of the variable."""

import pytest

from capstan_operator.settings import load_settings
from capstan_process.settings import SettingsError


def test_allowed_names_are_read_and_sorted() -> None:
    """The same patterns in another order are the same settings; nothing is nothing."""
    text = '{"team-a": ["team-a-*", "x"], "*": []}'
    settings = load_settings({"CAPSTAN_ALLOWED_NAMES": text})
    assert settings.allowed_names == (("*", ()), ("team-a", ("team-a-*", "x")))
    assert load_settings({"CAPSTAN_ALLOWED_NAMES": " "}).allowed_names == ()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CAPSTAN_ALLOWED_NAMES", "team-a=x", "CAPSTAN_ALLOWED_NAMES must be JSON"),
        ("CAPSTAN_ALLOWED_NAMES", "[]", "CAPSTAN_ALLOWED_NAMES must be a JSON object"),
        ("CAPSTAN_ALLOWED_NAMES", '{"a": "x"}', "must have a list of patterns, each a string, for 'a'"),
        ("CAPSTAN_ALLOWED_NAMES", '{"a": [""]}', "must have a list of patterns, each a string, for 'a'"),
        ("CAPSTAN_FALLBACKS_ACROSS_NAMESPACES", "yes", "CAPSTAN_FALLBACKS_ACROSS_NAMESPACES must be true or false"),
        ("CAPSTAN_MAX_DROPPED_PERCENT", "101", "CAPSTAN_MAX_DROPPED_PERCENT must be from 1 to 100"),
        ("CAPSTAN_MAX_DROPPED_PERCENT", "0", "CAPSTAN_MAX_DROPPED_PERCENT must be from 1 to 100"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(variable: str, value: str, message: str) -> None:
    """The message names the variable and what it takes."""
    with pytest.raises(SettingsError) as caught:
        load_settings({variable: value})
    assert message in str(caught.value)
