"""Secrets that manifests refer to, without a cluster: they come from the environment.

`secretRef: {name: openai, key: api-key}` is the variable OPENAI_API_KEY.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from capstan_operator.local.configdir import write_atomically


def variable_of(secret: str, key: str) -> str:
    """Give the name of the environment variable that stands for a key of a Secret."""
    return re.sub(r"[^A-Z0-9]", "_", f"{secret}_{key}".upper())


def write_credentials(
    folder: Path, wanted: Mapping[str, tuple[str, str, str]], environment: Mapping[str, str]
) -> dict[str, str]:
    """Write the gateway's credential files (file -> (namespace, Secret, key)); give the variables that are missing,
    by file."""
    missing = {}
    for file, (_, secret, key) in wanted.items():
        value = environment.get(variable_of(secret, key))
        if value:
            write_atomically(folder / file, value)
        else:
            missing[file] = variable_of(secret, key)
    for path in folder.iterdir():
        if path.name not in wanted or path.name in missing:
            path.unlink()
    return missing
