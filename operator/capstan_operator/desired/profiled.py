"""A profile merged under a manifest. Pure.

The rule: **what the manifest says wins, and what it does not say is the profile's**. A field whose value is the default
counts as not said, because an API server writes defaults into objects. By kind of field:

    a value             the manifest's, else the profile's; an image counts as said where a version is
    a map               key by key: node selector, the three kinds of affinity, labels and annotations of the pods
    variables           by name: the profile's first, then the manifest's
    tolerations         those of both
    arguments           option by option: words of the manifest before its first option, then the profile's options that
                        neither an argument nor a field of the manifest says, then the manifest's
    amounts             cpu, memory, sharedMemory: what is per replica, and for each of `resources.gpus` what is per GPU

Merging once more changes nothing, and nothing of a profile is lost that the manifest does not say.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

from pydantic import PrivateAttr, ValidationError

from capstan_operator.api.kinds import Model
from capstan_operator.api.llmmodel import EnvVar, LLMModelSpec
from capstan_operator.api.parse import explain
from capstan_operator.api.profile import Profile, ProfileEngine
from capstan_operator.desired.arguments import GivenOption, normalized, read_command_line
from capstan_operator.desired.engine import build_engine, options_of_fields
from capstan_operator.desired.profiles import KnownProfile, ProfileBook
from capstan_operator.desired.quantity import multiply_bytes, multiply_cpu
from capstan_operator.resources.resource import Fault
from capstan_operator.settings import BuildSettings

FIELD: Final = "spec.profile"
_NAMED: Final = 10
"""Of the profiles that there are, so many are named to whoever names another one."""
_PLACEMENT: Final = ("gpuResource", "runtimeClassName", "priorityClassName")


class ProfiledSpec(LLMModelSpec):
    """A spec with a profile merged under what its manifest says."""

    _own: LLMModelSpec = PrivateAttr()
    _known: KnownProfile = PrivateAttr()

    @classmethod
    def of(
        cls,
        merged: Mapping[str, Any],
        *,
        own: LLMModelSpec,
        known: KnownProfile,
        extra: Literal["forbid", "ignore"] = "forbid",
    ) -> Self:
        """Give it of a merged spec that is JSON. Raises ValidationError."""
        spec = cls.model_validate(dict(merged), extra=extra)
        spec._own, spec._known = own, known
        return spec

    @property
    def own(self) -> LLMModelSpec:
        """What the manifest says."""
        return self._own

    @property
    def known(self) -> KnownProfile:
        """The profile."""
        return self._known

    def saying(self, own: LLMModelSpec) -> Self:
        """Give the same spec as of a manifest that says this."""
        spec = self.model_copy()
        spec._own = own
        return spec

    @property
    def profile_hash(self) -> str:
        """A hash of what the profile gives to models on this type of engine."""
        return self._known.hashes[self.engine.type]


@dataclass(frozen=True)
class Given:
    """What a profile gives."""

    field: str
    """Path of the field, without `spec`: `resources.nodeSelector`."""
    whole: bool = True
    """Whether all that is in force of it is the profile's."""


def own_spec(spec: LLMModelSpec) -> LLMModelSpec:
    """Give what the manifest says, without what a profile adds."""
    return spec.own if isinstance(spec, ProfiledSpec) else spec


def profile_hash(spec: LLMModelSpec) -> str:
    """Give a hash of what a profile gives to the model; empty: it has none."""
    return spec.profile_hash if isinstance(spec, ProfiledSpec) else ""


def with_profile(model: Model, book: ProfileBook, *, where: str) -> Model:
    """Give a model with the profile that it names merged under its spec, or with why that cannot be. One that names
    none, or is faulty by itself, stays as it is. `where` is said of profiles that are not there.

    Raises nothing. What is wrong beyond the schema is for whoever judges it: see `fault_of`.
    """
    spec = model.spec
    if spec is None or spec.profile is None or isinstance(spec, ProfiledSpec):
        return model
    known = book.profiles.get(spec.profile)
    if known is None:
        return _faulty(model, f"names the profile '{spec.profile}', which {where} does not have{_others(book)}")
    if known.profile is None:
        return _faulty(model, f"names {called(known)}, which is faulty: {'; '.join(known.faults)}")
    try:
        merged = merge_profile(model, spec, known)
    except ValidationError as error:
        return _faulty(model, *(_does_not_fit(known, fault) for fault in explain(error, LLMModelSpec)))
    return replace(model, spec=merged, judged=None)


def fault_of(known: KnownProfile, fault: Fault) -> Fault:
    """Give what is wrong with a merged spec, and not with the manifest alone, as a fault of the profile."""
    return Fault(FIELD, _does_not_fit(known, replace(fault, field=fault.field.removeprefix("spec."))))


def merge_profile(model: Model, spec: LLMModelSpec, known: KnownProfile) -> ProfiledSpec:
    """Merge a profile under the spec of a model. Raises ValidationError when what comes of it is no spec."""
    profile = known.profile or Profile()
    said = spec.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for path, value in _gifts(model, spec, profile):
        part = said
        for name in path[:-1]:
            part = part.setdefault(name, {})
        part[path[-1]] = value
    return ProfiledSpec.of(said, own=spec, known=known)


def gifts_of(spec: LLMModelSpec) -> tuple[Given, ...]:
    """Give the fields of a spec that come from a profile, in the order of the fields."""
    if not isinstance(spec, ProfiledSpec):
        return ()
    found = []
    for path in _PATHS:
        ours, merged = _value_at(spec.own, path), _value_at(spec, path)
        if ours != merged:
            found.append(Given(".".join(path), whole=not ours or ours == _default_of(path)))
    return tuple(found)


_PATHS: Final = (
    ("engine", "image"),
    ("engine", "args"),
    ("engine", "env"),
    *(
        ("resources", name)
        for name in ("gpuResource", "cpu", "memory", "sharedMemory", "nodeSelector", "tolerations", "affinity")
    ),
    ("resources", "runtimeClassName"),
    ("resources", "priorityClassName"),
    ("pods", "labels"),
    ("pods", "annotations"),
)


def _value_at(spec: LLMModelSpec, path: Sequence[str]) -> Any:
    part: Any = spec
    for name in path:
        part = getattr(part, name, None)
    return part


def _default_of(path: Sequence[str]) -> Any:
    return _value_at(LLMModelSpec.model_construct(), path)


def _gifts(model: Model, spec: LLMModelSpec, profile: Profile) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the fields that are not as the manifest has them, with their values as JSON."""
    ours = spec.resources
    for name in _PLACEMENT:
        value = getattr(profile, name)
        if value is not None and getattr(ours, name) == type(ours).model_fields[name].default:
            yield ("resources", name), value
    for name, value in _amounts(spec, profile).items():
        if getattr(ours, name) is None:
            yield ("resources", name), value
    if profile.nodeSelector:
        yield ("resources", "nodeSelector"), {**profile.nodeSelector, **ours.nodeSelector}
    if profile.affinity:
        yield ("resources", "affinity"), {**profile.affinity, **(ours.affinity or {})}
    if profile.tolerations:
        more = [one for one in ours.tolerations if one not in profile.tolerations]
        yield ("resources", "tolerations"), [_json(one) for one in (*profile.tolerations, *more)]
    for name in ("labels", "annotations"):
        if gift := getattr(profile.pods, name):
            yield ("pods", name), {**gift, **(getattr(spec.pods, name) if spec.pods else {})}
    engine = profile.engines.of(spec.engine.type) or ProfileEngine()
    if engine.image is not None and spec.engine.image is None and spec.engine.version is None:
        yield ("engine", "image"), engine.image
    env = _by_name(_by_name(profile.env, engine.env), spec.engine.env)
    if len(env) > len(spec.engine.env):
        yield ("engine", "env"), [_json(one) for one in env]
    if args := _unsaid(model, spec, engine.args):
        first = len(read_command_line(spec.engine.args).leading)
        yield ("engine", "args"), [*spec.engine.args[:first], *args, *spec.engine.args[first:]]


def _amounts(spec: LLMModelSpec, profile: Profile) -> Mapping[str, str]:
    gpus, one, each = spec.resources.gpus, profile.perReplica, profile.perGPU
    found = {
        "cpu": multiply_cpu((one.cpu, 1), (each.cpu, gpus)),
        "memory": multiply_bytes((one.memory, 1), (each.memory, gpus)),
        "sharedMemory": multiply_bytes((one.sharedMemory, 1), (each.sharedMemory, gpus)),
    }
    return {name: value for name, value in found.items() if value is not None}


def _by_name(first: Iterable[EnvVar], second: Sequence[EnvVar]) -> tuple[EnvVar, ...]:
    """Give the variables of both: of one name those of the second."""
    said = {one.name for one in second}
    return (*(one for one in first if one.name not in said), *second)


def _unsaid(model: Model, spec: LLMModelSpec, args: Sequence[str]) -> list[str]:
    """Give a profile's arguments without the options that the manifest says, by an argument or by a field."""
    said = {normalized(one.flag) for one in read_command_line(spec.engine.args).options}
    said |= {normalized(flag) for one in options_of_fields(spec.engine) if not one.values for flag in one.spellings}
    words: list[str] = []
    for given in read_command_line(args).options:
        own = _words_of(given, args)
        if normalized(given.flag) not in said and not _is_written(model, spec, own):
            words += own
    return words


def _words_of(given: GivenOption, args: Sequence[str]) -> Sequence[str]:
    return args[given.index : given.index + 1 + (0 if given.inline else len(given.values))]


def _is_written(model: Model, spec: LLMModelSpec, words: Sequence[str]) -> bool:
    """Say whether Capstan writes an option for the fields of the manifest: it would leave its own out for this one."""

    def written(args: Sequence[str]) -> Counter[str]:
        engine = spec.engine.model_copy(update={"args": tuple(args)})
        return Counter(build_engine(model, spec.model_copy(update={"engine": engine}), BuildSettings()).args)

    return bool(written(()) - (written(words) - Counter(words)))


def _json(part: Any) -> Any:
    return part.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def _faulty(model: Model, *messages: str) -> Model:
    faults = tuple(Fault(FIELD, message) for message in messages)
    return replace(model, faults=faults, judged=faults)


def _does_not_fit(known: KnownProfile, fault: Fault) -> str:
    return f"names {called(known)}, with which the manifest cannot be used: {fault}"


def called(known: KnownProfile) -> str:
    """Say which profile it is, and where."""
    return f"the profile '{known.name}' of the ConfigMap '{known.config_map}'"


def _others(book: ProfileBook) -> str:
    names = sorted(book.profiles)
    if not names:
        return ": there are no profiles"
    return f": there are {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}"
