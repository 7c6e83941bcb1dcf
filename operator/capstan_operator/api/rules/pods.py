"""What may be said of a model's pods: their labels and annotations, variables and files from elsewhere, claims."""

from capstan_operator.api.parts import are_label_keys
from capstan_operator.api.patterns import DOTS, FOLDERS_OF_CAPSTAN, LABEL_KEY
from capstan_operator.api.rules.cel import quoted
from capstan_operator.api.schema import Rule, matches
from capstan_operator.settings import TAKEN_LABEL_PREFIXES, TAKEN_LABELS

_OWN, _OF_JOBS = TAKEN_LABEL_PREFIXES


def _keys(field: str) -> Rule:
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(key, size(key) <= 316 && key.matches('{LABEL_KEY}'))",
        message="must have keys such as example.com/name",
        holds=lambda self: are_label_keys(getattr(self, field)),
        field_path=f".{field}",
    )


PODS = (
    _keys("labels"),
    _keys("annotations"),
    Rule(
        cel=f"!has(self.labels) || self.labels.all(key, !key.startsWith('{_OWN}') && !key.startsWith('{_OF_JOBS}')"
        f" && !(key in [{', '.join(repr(one) for one in TAKEN_LABELS)}]))",
        message=f"must not have keys that Capstan and Kubernetes set: {_OWN}*, {_OF_JOBS}*, " + ", ".join(TAKEN_LABELS),
        holds=lambda self: not any(key in TAKEN_LABELS or key.startswith(TAKEN_LABEL_PREFIXES) for key in self.labels),
        field_path=".labels",
    ),
    Rule(
        cel=f"!has(self.annotations) || self.annotations.all(key, !key.startsWith('{_OWN}'))",
        message=f"must not have keys that Capstan sets: {_OWN}*",
        holds=lambda self: not any(key.startswith(_OWN) for key in self.annotations),
        field_path=".annotations",
    ),
)

ENV_FROM = (
    Rule(
        cel="has(self.configMapRef) != has(self.secretRef)",
        message="must have exactly one of `configMapRef` and `secretRef`",
        holds=lambda self: (self.configMapRef is None) != (self.secretRef is None),
    ),
)

FILE = (
    Rule(
        cel="has(self.configMapKeyRef) != has(self.secretKeyRef)",
        message="must have exactly one of `configMapKeyRef` and `secretKeyRef`",
        holds=lambda self: (self.configMapKeyRef is None) != (self.secretKeyRef is None),
    ),
    Rule(
        cel=f"!self.path.matches('{quoted(DOTS)}')",
        message="must not have `.` or `..` in its path",
        holds=lambda self: not matches(DOTS, self.path),
        field_path=".path",
    ),
    Rule(
        cel=f"!self.path.matches('{quoted(FOLDERS_OF_CAPSTAN)}')",
        message="must be in no folder that Capstan or Kubernetes mounts: /dev, /proc, /sys, /run, /var/run, /tmp, "
        "/mnt/model, /mnt/claims, /etc/capstan, /var/cache/capstan, /var/lib/capstan",
        holds=lambda self: not matches(FOLDERS_OF_CAPSTAN, self.path),
        field_path=".path",
    ),
)

ENGINE = (
    Rule(
        cel="!has(self.files) || self.files.all(one, !self.files.exists(other, other.path.startsWith(one.path + '/')))",
        message="must not have a path below that of another file",
        holds=lambda self: not any(other.path.startswith(f"{one.path}/") for one in self.files for other in self.files),
        field_path=".files",
    ),
)

CLAIM = (
    Rule(
        cel="has(self.resourceClaimName) != has(self.resourceClaimTemplateName)",
        message="must have exactly one of `resourceClaimName` and `resourceClaimTemplateName`",
        holds=lambda self: (self.resourceClaimName is None) != (self.resourceClaimTemplateName is None),
    ),
)
