"""The gateway's config directory: written so that a reader never sees half a file or a config without its shards."""

import os
import tempfile
from pathlib import Path

from capstan_contract.config import ConfigError, GatewayConfig
from capstan_contract.names import CONFIG_FILE
from capstan_contract.sharding import other_set, shards_named_by, split_config


def write_config(folder: Path, config: GatewayConfig) -> None:
    """Write `config` into `folder`: into the set of shards that is not in use, then the document that names them, then
    stale shards go."""
    documents = split_config(config, shard_set=other_set(_shards_in_use(folder)))
    for name in sorted(documents, key=lambda name: (name == CONFIG_FILE, name)):
        write_atomically(folder / name, documents[name])
    for path in folder.glob("shard-*.json"):
        if path.name not in documents:
            path.unlink()


def _shards_in_use(folder: Path) -> tuple[str, ...]:
    try:
        return shards_named_by((folder / CONFIG_FILE).read_bytes())
    except (OSError, ConfigError):
        return ()


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step; only its owner can read it."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
