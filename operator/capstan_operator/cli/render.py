"""`capstan render`: print what the operator would write for a set of manifests. The same input gives the same bytes."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from capstan_contract.config import ConfigError
from capstan_contract.sharding import split_config
from capstan_operator.api.kinds import Model
from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.cli.validate import check_together, line_of
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.config_maps import build_config_maps
from capstan_operator.desired.model import build_model
from capstan_operator.desired.name_rules import NameRules
from capstan_operator.desired.profiled import ProfiledSpec, gifts_of
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.manifests.brought import with_brought
from capstan_operator.manifests.collect import Manifests, load_manifests
from capstan_operator.manifests.documents import Severity
from capstan_operator.manifests.profiles import with_profiles
from capstan_operator.manifests.prompts import with_prompts
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import Settings, load_settings
from capstan_process.settings import SettingsError

HEADER = """\
# What the Capstan operator writes for these manifests. In a cluster there are owner references and generations as well.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, or folders with manifests")
    parser.add_argument(
        "-n", "--namespace", default=DEFAULT_NAMESPACE, help="of objects that name none (default: %(default)s)"
    )
    parser.epilog = "The operator's settings (images, names, namespaces) are read from the same CAPSTAN_* variables."


def run(arguments: argparse.Namespace) -> int:
    """Print the objects, and warnings beside them; print only what is wrong, and give 1, when something is."""
    loaded = load_manifests(arguments.paths, namespace=arguments.namespace)
    manifests = with_brought(with_prompts(with_profiles(loaded, missing=Severity.ERROR)))
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    diagnostics = [*manifests.diagnostics, *check_together(manifests, NameRules.from_settings(settings))]
    for diagnostic in diagnostics:
        if diagnostic.severity is not Severity.NOTICE:
            print(line_of(diagnostic), file=sys.stderr)
    if any(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics):
        return 1
    try:
        print(render(manifests, settings), end="")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def render(manifests: Manifests, settings: Settings) -> str:
    """Give the objects as YAML: those of each model in the order of the models, then the gateway's config. In front of
    the first object of a model with a profile a comment says what that gives.

    Raises ConfigError when the gateway config does not fit into its ConfigMaps.
    """
    return HEADER + "".join(_documents(manifests, settings))


def model_objects(model: Model, manifests: Manifests, settings: Settings) -> Sequence[Manifest]:
    """Give the Kubernetes objects that one of the models becomes."""
    return build_model(model, Snapshot(models=manifests.models, inference_pools=True), settings.build).objects


def _documents(manifests: Manifests, settings: Settings) -> Iterator[str]:
    models = [manifests.models[key] for key in sorted(manifests.models)]
    for model in models:
        comment = _comment(model)
        for manifest in model_objects(model, manifests, settings):
            yield f"{comment}---\n{_yaml(manifest)}"
            comment = ""
    compiled = compile_gateway(models, policies=manifests.policies.values(), rules=NameRules.from_settings(settings))
    for manifest in build_config_maps(split_config(compiled.config), settings):
        yield f"---\n{_yaml(manifest)}"


def _comment(model: Model) -> str:
    """Say which profile gives what."""
    if not isinstance(model.spec, ProfiledSpec):
        return ""
    known, gifts = model.spec.known, gifts_of(model.spec)
    said = ", ".join(one.field if one.whole else f"{one.field} (in part)" for one in gifts) or "nothing"
    return f"# {model.key}: the profile '{known.name}' of the ConfigMap '{known.config_map}' gives {said}\n"


def _yaml(manifest: Manifest) -> str:
    """Write it as an API server would see it: through JSON, after which nothing is shared and nothing is an enum."""
    return yaml.safe_dump(json.loads(json.dumps(manifest)), sort_keys=False, width=2**31, allow_unicode=True)
