"""What a folder of manifests compiles to beside what runs."""

from capstan_contract.config import GatewayConfig, StaticBackend
from capstan_operator.local.session import compile_folder
from support.plainmodels import make_model


def test_a_name_stays_with_the_file_that_serves_under_it() -> None:
    """A second file that claims the name comes later, whatever it is called."""
    mine = make_model("z", created="", model={"servedName": "gpt"})
    running = compile_folder([mine], GatewayConfig.build(()), lambda _: StaticBackend(urls=()))
    other = make_model("a", created="", model={"servedName": "gpt"})
    compiled = compile_folder([mine, other], running.config, lambda _: StaticBackend(urls=()))
    assert [entry.id for entry in compiled.config.models] == ["team/z"]
