"""Which engines a sidecar asks for prefixes without knowing whether they are still there."""

from typing import Any

import pytest

from capstan_worker import sidecar
from capstan_worker.engine.kinds import EngineKind
from capstan_worker.keeping import Keeper
from capstan_worker.prefixes import Prefix
from capstan_worker.settings import SidecarSettings, WorkerSettings


@pytest.mark.parametrize("kind", EngineKind)
def test_only_an_engine_of_a_known_kind_is_asked_blindly(kind: EngineKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an OpenAICompatible one does with a prompt that it has computed nobody knows, unless it tells."""
    said: list[bool] = []

    class Said(Keeper):
        def __init__(self, *given: Any, blindly: bool, **more: Any) -> None:
            said.append(blindly)
            super().__init__(*given, blindly=blindly, **more)

    monkeypatch.setattr(sidecar, "Keeper", Said)
    settings = SidecarSettings(kind=kind, url="http://127.0.0.1:1", model="m")
    sidecar.SidecarProcess(settings, WorkerSettings(), (Prefix("a", "text"),))
    assert said == [kind is not EngineKind.OPENAI_COMPATIBLE]
