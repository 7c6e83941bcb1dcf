"""`capstan images`: print every image that an install and its models run, for a registry of one's own.

The chart is rendered by helm, or has been (`--rendered`), and the manifests are built as the operator that it installs
would build them: what is printed is what will be pulled.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import yaml

from capstan_operator.api.parse import DEFAULT_NAMESPACE
from capstan_operator.cli.render import model_objects
from capstan_operator.cli.validate import line_of
from capstan_operator.manifests.collect import load_manifests
from capstan_operator.manifests.documents import Document, Severity
from capstan_operator.manifests.images import Image, collect_images, told_variables
from capstan_operator.manifests.profiles import profiles_in, with_profiles
from capstan_operator.manifests.prompts import with_prompts
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import load_settings
from capstan_process.settings import SettingsError

HINT: Final = "Use --debug flag to render out invalid YAML"
"""Of helm, which is no help to whoever has not called it."""
KUBERNETES: Final = "1.34.0"
APIS: Final = ("gateway.networking.k8s.io/v1", "monitoring.coreos.com/v1")
"""What the cluster is taken to be and to know, so that the chart refuses nothing: no image follows from it."""
HELM_SECONDS: Final = 120
"""How long helm may take: it may have to fetch the chart."""


class _Unusable(Exception):
    """What the chart is cannot be known; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files, or folders with manifests")
    chart = parser.add_mutually_exclusive_group()
    chart.add_argument("--chart", help="the chart: a folder, an archive or oci://..., rendered by helm")
    chart.add_argument("--rendered", metavar="FILE", help="what `helm template` has printed; -: standard input")
    parser.add_argument("-f", "--values", action="append", default=[], metavar="FILE", help="values, as for helm")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a value, as for helm")
    parser.add_argument("--version", help="version of the chart, as for helm")
    parser.add_argument("--helm", default="helm", metavar="PROGRAM", help="which helm (default: %(default)s)")
    parser.add_argument(
        "-n", "--namespace", default=DEFAULT_NAMESPACE, help="of objects that name none (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="default: %(default)s")
    parser.epilog = (
        "Without manifests the default images of all engines and those of all profiles are among them. Without a chart "
        "the operator's settings are read from the CAPSTAN_* variables, as `capstan render` does."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the images; print only what is wrong, and give 1, when something is."""
    if not arguments.paths and arguments.chart is None and arguments.rendered is None:
        print("error: nothing to look at: name manifests, --chart or --rendered", file=sys.stderr)
        return 1
    loaded = load_manifests(arguments.paths, namespace=arguments.namespace)
    try:
        chart = _chart(arguments)
        settings = load_settings(told_variables(chart)) if chart else load_settings()
    except (_Unusable, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Among the chart's objects are the profiles that models may name.
    of_chart = (Document(file="chart", number=number, line=1, manifest=one) for number, one in enumerate(chart, 1))
    loaded = replace(loaded, others=(*of_chart, *loaded.others))
    manifests = with_prompts(with_profiles(loaded, missing=Severity.ERROR))
    for diagnostic in manifests.diagnostics:
        if diagnostic.severity is Severity.ERROR:
            print(line_of(diagnostic), file=sys.stderr)
    if manifests.failed:
        return 1
    models = (manifests.models[key] for key in sorted(manifests.models))
    built = (found for model in models for found in model_objects(model, manifests, settings))
    objects = [*(document.manifest for document in manifests.others), *built]
    # Without manifests nobody knows what models ask for: all that they may run by default is listed.
    any_model = not arguments.paths
    profiles = profiles_in(manifests).profiles.values() if any_model else ()
    images = collect_images(objects, engines=any_model, profiles=profiles)
    print(_as_json(images) if arguments.output == "json" else "\n".join(image.name for image in images))
    return 0


def _chart(arguments: argparse.Namespace) -> list[Manifest]:
    """Give the objects of the chart; none where no chart is named. Raises _Unusable."""
    if arguments.rendered is not None:
        try:
            text = sys.stdin.read() if arguments.rendered == "-" else Path(arguments.rendered).read_text()
        except (OSError, UnicodeError) as error:
            raise _Unusable(f"{arguments.rendered} cannot be read: {error}") from error
    elif arguments.chart is not None:
        text = _render(arguments)
    else:
        return []
    try:
        objects = [found for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if isinstance(found, dict)]
    except yaml.YAMLError as error:
        raise _Unusable(f"what helm has rendered is no YAML: {error}") from error
    if not told_variables(objects):
        raise _Unusable("what helm has rendered has no operator in it: is it Capstan's chart?")
    return objects


def _render(arguments: argparse.Namespace) -> str:
    command = [arguments.helm, "template", "capstan", arguments.chart, "--namespace", arguments.namespace]
    command += [word for file in arguments.values for word in ("--values", file)]
    command += [word for value in arguments.set for word in ("--set", value)]
    command += ["--version", arguments.version] if arguments.version else []
    command += ["--kube-version", KUBERNETES, *(word for api in APIS for word in ("--api-versions", api))]
    try:
        done = subprocess.run(  # noqa: S603  (the user names it)
            command, capture_output=True, text=True, check=False, timeout=HELM_SECONDS
        )
    except OSError as error:
        raise _Unusable(f"{arguments.helm} cannot be run ({error.strerror}): name it by --helm") from error
    except subprocess.TimeoutExpired as error:
        raise _Unusable(f"{arguments.helm} has not rendered the chart within {HELM_SECONDS} s") from error
    if done.returncode:
        raise _Unusable(done.stderr.strip().removeprefix("Error: ").removesuffix(HINT).strip())
    return done.stdout


def _as_json(images: tuple[Image, ...]) -> str:
    found = [{"image": image.name, "source": image.source, "usedBy": list(image.used_by)} for image in images]
    return json.dumps({"images": found}, indent=2)
