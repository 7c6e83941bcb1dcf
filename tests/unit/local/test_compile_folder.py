"""What a folder of manifests compiles to beside what runs."""

from capstan_contract.config import GatewayConfig, StaticBackend
from capstan_operator.local.session import compile_folder
from support.plainmodels import make_model
from support.plainpolicies import make_policy, named


def test_a_name_stays_with_the_file_that_serves_under_it() -> None:
    """A second file that claims the name comes later, whatever it is called."""
    mine = make_model("z", created="", model={"servedName": "gpt"})
    running = compile_folder([mine], GatewayConfig.build(()), lambda _: StaticBackend(urls=()))
    other = make_model("a", created="", model={"servedName": "gpt"})
    compiled = compile_folder([mine, other], running.config, lambda _: StaticBackend(urls=()))
    assert [entry.id for entry in compiled.config.models] == ["team/z"]


def test_policies_of_a_folder() -> None:
    """A policy of the folder that names no model is for all of it, whatever its namespace; one that names some is for
    these."""
    everybody, one = make_policy("everybody", created=""), make_policy("one", created="", targetRefs=named("b"))
    models = [make_model("a", created=""), make_model("b", created=""), make_model("c", namespace="x", created="")]
    compiled = compile_folder(models, GatewayConfig.build(()), lambda _: StaticBackend(urls=()), [one, everybody])
    everywhere = ("RateLimitPolicy/team/everybody",)
    assert {entry.id: entry.policies for entry in compiled.config.models} == {
        "team/a": everywhere,
        "team/b": ("RateLimitPolicy/team/one",),
        "x/c": everywhere,
    }
