"""The manifests in README.md and docs/ can be applied as they stand."""

import pytest

from capstan_operator.api.kinds import KINDS
from capstan_operator.api.parse import parse_resource
from support.doc_manifests import FRAGMENTS, Fragment, fragments

PAGE = """
# Guards

    - type: Keywords
      keywords: [a]

Prose.

```yaml
apiVersion: capstan.dev/v1alpha1
kind: GuardPolicy
```

    $ kubectl get pods
"""


def test_fragments_of_a_page_are_found() -> None:
    """Indented blocks and fenced ones, with the lines where they begin, and nothing else."""
    found = fragments(PAGE, "page.md")
    assert [(one.line, one.text.split("\n")[0]) for one in found] == [
        (4, "- type: Keywords"),
        (10, "apiVersion: capstan.dev/v1alpha1"),
    ]


def test_there_are_fragments() -> None:
    """None of the pages with manifests is lost."""
    pages = {one.page for one in FRAGMENTS}
    assert {"README.md", "cache-policies.md", "guard-policies.md", "guards-plain.md", "limits.md"} <= pages


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=str)
def test_what_docs_tell_to_write_is_taken(fragment: Fragment) -> None:
    """Every field of every manifest in the docs is one that its kind has, with a value that it takes."""
    for content in fragment.manifests():
        kind = next(one for one in KINDS if one.name == content["kind"])
        assert parse_resource(kind, content).faults == ()
