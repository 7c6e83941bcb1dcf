"""Write what the chart takes from elsewhere: its copies of the CRDs, and the table of its values in docs/install.md.

    python scripts/sync_chart.py            write them
    python scripts/sync_chart.py --check    change nothing; fail when one of them is not what it would be

The CRDs come from crds/. The table comes from helm/capstan/values.yaml: the comment after `# --` describes the value
below it.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "capstan"
PAGE = ROOT / "docs" / "install.md"
BEGIN, END = "<!-- values: made by scripts/sync_chart.py -->", "<!-- end of values -->"
KEEP = {"helm.sh/resource-policy": "keep", "argocd.argoproj.io/sync-wave": "-2"}


@dataclass(frozen=True)
class Value:
    """A value of the chart, as values.yaml tells it."""

    path: str
    default: str
    text: str


def main() -> int:
    """Write or check; give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail when something is stale")
    check = parser.parse_args().check
    wanted = {**chart_crds(), PAGE: page_with_table(PAGE.read_text(), (CHART / "values.yaml").read_text())}
    left_over = {path for path in (CHART / "templates" / "crds").glob("*.yaml") if path not in wanted}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in sorted([*stale, *left_over]):
        print(f"{'stale' if check else 'wrote'}: {path.relative_to(ROOT)}", file=sys.stderr)
    if check:
        return 1 if stale or left_over else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    for path in left_over:
        path.unlink()
    return 0


def chart_crds() -> dict[Path, str]:
    """Give the chart's copy of every file in crds/."""
    folder = CHART / "templates" / "crds"
    return {folder / source.name: chart_crd(source.read_text()) for source in sorted((ROOT / "crds").glob("*.yaml"))}


def chart_crd(text: str) -> str:
    """Wrap a CRD: behind `crds.enabled`, kept on uninstall, first in Argo CD's order. Braces are no template."""
    comment = "".join(line + "\n" for line in text.splitlines() if line.startswith("#"))
    body = "".join(line + "\n" for line in text.splitlines() if not line.startswith("#"))
    annotations = "".join(f'    {key}: "{value}"\n' for key, value in KEEP.items())
    body = body.replace("{{", '{{ "{{" }}')
    body, count = re.subn(r"^  annotations:\n", f"  annotations:\n{annotations}", body, count=1, flags=re.MULTILINE)
    if not count:
        raise SystemExit("a CRD must have annotations")
    return f"{comment}{{{{- if .Values.crds.enabled }}}}\n{body}{{{{- end }}}}\n"


def page_with_table(page: str, values: str) -> str:
    """Give the page with the table between its two marks made anew."""
    if BEGIN not in page or END not in page:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} must have the marks {BEGIN!r} and {END!r}")
    rows = [f"| `{value.path}` | `{value.default}` | {value.text} |" for value in described_values(values)]
    table = "\n".join(["| value | default | what it does |", "| --- | --- | --- |", *rows])
    return f"{page[: page.index(BEGIN)]}{BEGIN}\n\n{table}\n\n{page[page.index(END) :]}"


def described_values(text: str) -> Iterator[Value]:
    """Give every value that has a `# --` comment, in order.

    A comment belongs to the next key; the keys above it are known by their indentation.
    """
    values = yaml.safe_load(text)
    parents: list[str] = []
    comment: list[str] | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#") and comment is not None:
            comment.append(stripped.removeprefix("#").strip())
        elif match := re.match(r"^( *)([A-Za-z]\w*):", line):
            parents = [*parents[: len(match[1]) // 2], match[2]]
            if comment is not None:
                path = ".".join(parents)
                yield Value(path=path, default=_shown(values, parents), text=" ".join(comment))
            comment = None


def _shown(values: object, path: list[str]) -> str:
    for key in path:
        values = values[key]  # type: ignore[index]
    return json.dumps(values).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
