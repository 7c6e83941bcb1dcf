"""Which tokenizer a model has."""

from capstan_contract.config import CascadeBackend, Provider
from capstan_gateway.tokenizers.wanted import Wanted, wanted_of
from support.gateway import entry, hosted_by


def test_the_name_that_a_model_gives_is_the_only_one() -> None:
    """Where it is missing, no other is taken in its place."""
    assert wanted_of(entry("m", tokenizer="org/other")) == Wanted(("org/other",), named=True)


def test_a_model_that_names_none_has_that_of_its_id() -> None:
    """Namespace and name: another namespace may have a model of the same name, and another tokenizer."""
    assert wanted_of(entry("m")) == Wanted(("test/m", "test.m"))


def test_models_of_openai_have_what_it_has_published() -> None:
    """By the name that the API is sent; of an unknown one nobody knows. A server that is like OpenAI's has any."""
    openai = hosted_by(Provider.OPENAI, "http://127.0.0.1:1")
    assert wanted_of(entry("m", backend=openai, upstreamName="gpt-4o")) == Wanted(("o200k_base",))
    assert wanted_of(entry("m", backend=openai, upstreamName="new")) is None
    like = hosted_by(Provider.OPENAI_COMPATIBLE, "http://127.0.0.1:1")
    assert wanted_of(entry("m", backend=like, upstreamName="gpt-4o")) == Wanted(("test/m", "test.m"))


def test_some_models_have_none() -> None:
    """A virtual model has several; Anthropic has published none, and counts itself."""
    assert wanted_of(entry("m", backend=CascadeBackend(members=("test/a",)))) is None
    assert wanted_of(entry("m", backend=hosted_by(Provider.ANTHROPIC, "http://127.0.0.1:1"))) is None
