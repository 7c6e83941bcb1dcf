#!/usr/bin/env python3
"""What a release is: one version in all places, and a section of CHANGELOG.md.

    python scripts/release.py check v0.2.0     fail when a place says another version, or the notes are missing
    python scripts/release.py notes v0.2.0     print the section of CHANGELOG.md
    python scripts/release.py set 0.2.0        write the version into all places; then run scripts/generate.sh

Needs no package: a release is checked before anything is installed.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?"
"""A release (https://semver.org), which is also a tag of an image; build metadata (`+`) is not."""


@dataclass(frozen=True)
class Place:
    """Where a version is written by hand."""

    file: str
    before: str
    """A regular expression of what stands before it on its line."""
    after: str = ""


PLACES = (
    Place("pyproject.toml", r'^version = "', '"'),
    Place("helm/capstan/Chart.yaml", r"^version: "),
    Place("helm/capstan/Chart.yaml", r"^appVersion: "),
    Place("operator/capstan_operator/names.py", r'^RELEASE: Final = "', '"'),
    Place("operator/capstan_operator/settings.py", r"\{NO_REGISTRY\}/worker:", '"'),
    Place("operator/capstan_operator/settings.py", r"\{NO_REGISTRY\}/operator:", '"'),
)


def main() -> int:
    """Run one command; give its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("check", "notes", "set"))
    parser.add_argument("version", help="a version, or its tag (with `v` before it)")
    arguments = parser.parse_args()
    version = arguments.version.removeprefix("v")
    if not re.fullmatch(VERSION, version):
        print(f"error: {arguments.version} is no version such as 1.2.3 or 1.2.3-rc.1", file=sys.stderr)
        return 1
    if arguments.command == "set":
        write(version)
        return 0
    changelog = (ROOT / "CHANGELOG.md").read_text()
    notes = section(changelog, version)
    if arguments.command == "notes":
        print(notes, end="")
        return 0 if notes else 1
    faults = [f"{place} says {found}, not {version}" for place, found in versions().items() if found != version]
    faults += [] if notes else [f"CHANGELOG.md has no section `## [{version}]`"]
    faults += ["CHANGELOG.md still has something under [Unreleased]"] if section(changelog, "Unreleased") else []
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def versions() -> dict[str, str]:
    """Give the version that each place says, those of the generated CRDs too."""
    found = {f"{place.file} ({_shown(place)})": _find(place)[0] for place in PLACES}
    for folder in ("crds", "helm/capstan/templates/crds"):
        for path in sorted((ROOT / folder).glob("*.yaml")):
            match = re.search(rf"^ +capstan\.dev/release: ({VERSION})$", path.read_text(), re.MULTILINE)
            found[str(path.relative_to(ROOT))] = match[1] if match else "none"
    return found


def section(changelog: str, version: str) -> str:
    """Give what a changelog says of a version, without its heading; empty: nothing."""
    for part in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        if part.startswith(f"[{version}]"):
            text = part.partition("\n")[2].strip()
            return f"{text}\n" if text else ""
    return ""


def write(version: str) -> None:
    """Write a version into all places but those that are generated."""
    for place in PLACES:
        _, match, text = _find(place)
        (ROOT / place.file).write_text(f"{text[: match.start(1)]}{version}{text[match.end(1) :]}")


def _find(place: Place) -> tuple[str, re.Match[str], str]:
    text = (ROOT / place.file).read_text()
    matches = list(re.finditer(rf"{place.before}({VERSION}){place.after}", text, re.MULTILINE))
    if len(matches) != 1:
        raise SystemExit(f"{place.file} must have the version exactly once after {place.before!r}")
    return matches[0][1], matches[0], text


def _shown(place: Place) -> str:
    return re.sub(r"[\\^]", "", place.before).strip(' ":=')


if __name__ == "__main__":
    sys.exit(main())
