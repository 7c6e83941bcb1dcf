"""What a person at the terminal reads. Pure."""

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend, Task

SIMULATED = "simulator (answers are made up)"


@dataclass(frozen=True)
class Row:
    """One model in the table."""

    name: str
    names: tuple[str, ...]
    """What clients may ask for."""
    runs_on: str
    state: str


def table(rows: Iterable[Row]) -> str:
    """Draw the table of models."""
    cells = [("MODEL", "CLIENTS ASK FOR", "RUNS ON", "STATE")]
    cells += [(row.name, ", ".join(row.names), row.runs_on, row.state) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    return "\n".join(
        "  " + "  ".join(text.ljust(width) for text, width in zip(line, (*widths, 0), strict=True)).rstrip()
        for line in cells
    )


@dataclass(frozen=True)
class Access:
    """How clients get in."""

    everybody: bool = False
    """Without a key."""
    key: str = ""
    """The key that this machine's owner has; empty: others were made, or it was revoked."""
    is_new: bool = False
    """Whether it was made just now."""
    path: str = ""
    """Where it is kept."""
    state: str = ""
    """The state directory, in which keys are made."""

    @property
    def text(self) -> str:
        """Say it to people."""
        if self.everybody:
            return "Everybody on this machine may ask, without an API key (--insecure-no-auth)."
        if self.is_new:
            return f"It asks for an API key. Yours was made just now, and is kept in {self.path}:\n\n  {self.key}"
        if self.key:
            return f"It asks for an API key. Yours is in {self.path}."
        return (
            "It asks for an API key, which is nowhere but with whoever made it;"
            f" a new one: capstan keys create --state-dir {self.state}"
        )

    @property
    def header(self) -> str:
        """Give what curl sends of it, with a space behind; nothing where no key is asked for."""
        if self.everybody:
            return ""
        return f'-H "Authorization: Bearer {self.key or "$CAPSTAN_API_KEY"}" '


def curl_lines(address: str, entries: Sequence[ModelEntry], access: Access) -> tuple[str, ...]:
    """Give one line to paste for each task that is served."""
    lines: dict[Task, str] = {}
    for entry in entries:
        route, body = _example(entry)
        if entry.task is Task.TRANSCRIBE:
            form = f"-F model={shlex.quote(entry.servedName)} -F file=@speech.wav"
            lines.setdefault(entry.task, f"curl {address}/v1/audio/transcriptions {access.header}{form}")
        elif route and entry.task not in lines:
            lines[entry.task] = (
                f"curl -N {address}{route} {access.header}-H 'Content-Type: application/json'"
                f" -d {shlex.quote(json.dumps(body))}"
            )
    return tuple(lines.values())


def _example(entry: ModelEntry) -> tuple[str, dict[str, object]]:
    name = entry.servedName
    match entry.task:
        case Task.CHAT:
            messages = [{"role": "user", "content": "Hello! Who are you?"}]
            return "/v1/chat/completions", {"model": name, "stream": True, "max_tokens": 100, "messages": messages}
        case Task.COMPLETION:
            return "/v1/completions", {"model": name, "prompt": "Once upon a time", "max_tokens": 32}
        case Task.EMBED:
            return "/v1/embeddings", {"model": name, "input": "Hello"}
        case _:
            return "", {}


def changes(old: GatewayConfig, new: GatewayConfig) -> tuple[tuple[str, str], ...]:
    """Give (model, sentence) for what clients will notice; where an engine runs is not among it."""
    before = {entry.id: entry for entry in old.models}
    after = {entry.id: entry for entry in new.models}
    lines = [(_name(before[key]), "is no longer served") for key in sorted(before.keys() - after.keys())]
    for key, entry in sorted(after.items()):
        if key not in before:
            lines.append((_name(entry), f"is served as '{entry.servedName}'"))
        else:
            lines += [(_name(entry), sentence) for sentence in _differences(before[key], entry)]
    return tuple(lines)


def _differences(old: ModelEntry, new: ModelEntry) -> list[str]:
    sentences = []
    if old.servedName != new.servedName:
        sentences.append(f"is now served as '{new.servedName}', no longer as '{old.servedName}'")
    here = isinstance(old.backend, StaticBackend) and isinstance(new.backend, StaticBackend)
    untold = {"servedName", "generation", "startFailure", *(["backend"] if here else [])}
    fields = [name for name in ModelEntry.model_fields if name not in untold]
    changed = [name for name in fields if getattr(old, name) != getattr(new, name)]
    if changed:
        sentences.append(f"changed in the gateway: {', '.join(changed)}")
    return sentences


def _name(entry: ModelEntry) -> str:
    return entry.id.rpartition("/")[2]
