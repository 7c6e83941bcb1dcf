r"""The patterns of the resources' strings, and what each allows in words.

NB: they run in three engines (Go's in the API server, Rust's in pydantic, Python's in `schema.matches`). Only ASCII
classes are used, because \w and \s do not mean the same in all of them.
"""

from collections.abc import Mapping
from typing import Final

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
MODEL_NAME: Final = r"^[A-Za-z0-9]([-A-Za-z0-9._:/@]*[A-Za-z0-9])?$"
DATA_KEY: Final = r"^[-._a-zA-Z0-9]+$"
LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
ENV_NAME: Final = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"
IMAGE: Final = r"^[A-Za-z0-9][-A-Za-z0-9._/:@]*$"
TAG: Final = r"^[A-Za-z0-9_][-A-Za-z0-9_.]*$"
EXTENDED_RESOURCE: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
SOURCE: Final = r"^(hf|pvc|s3|gs|oss|oci)://[!-~]+$"
ADAPTER_SOURCE: Final = r"^(hf|pvc|s3|gs|oss)://[!-~]+$"
DRAFT_SOURCE: Final = r"^(hf|pvc)://[!-~]+$"
QUANTIZATION: Final = r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$"
PARSER: Final = r"^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$"
REVISION: Final = r"^[A-Za-z0-9][-A-Za-z0-9._/]*$"
TOKENIZER: Final = r"^[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)?$"
FILE_PATH: Final = r"^(/[-A-Za-z0-9._@+=~]+)+$"
_HOST_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_H16 = r"[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    (
        rf"({_H16}:){{7}}{_H16}",
        rf"({_H16}:){{1,7}}:",
        *(rf"({_H16}:){{1,{before}}}(:{_H16}){{1,{7 - before}}}" for before in range(1, 7)),
        rf":((:{_H16}){{1,7}}|:)",
    )
)
_PORT = r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
URL: Final = rf"^https?://({_HOST_LABEL}(\.{_HOST_LABEL})*\.?|\[({_IPV6})\])(:({_PORT}))?(/[-A-Za-z0-9._~%/]*)?$"
DECIMAL: Final = r"^[0-9]+(\.[0-9]+)?$"
FRACTION: Final = r"^(0(\.[0-9]+)?|1(\.0+)?)$"
CPU: Final = r"^(0\.[0-9]*[1-9][0-9]*|0*[1-9][0-9]*(\.[0-9]+)?)m?$"
BYTES: Final = r"^(0\.[0-9]*[1-9][0-9]*|0*[1-9][0-9]*(\.[0-9]+)?)(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
REASON: Final = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"

# What comes after the scheme of a source.
HF_SOURCE: Final = r"^hf://[A-Za-z0-9][-A-Za-z0-9._]*(/[A-Za-z0-9][-A-Za-z0-9._]*)?$"
PVC_SOURCE: Final = r"^pvc://[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(/[-A-Za-z0-9._@+=~]+)*/?$"
S3_SOURCE: Final = r"^s3://[a-z0-9][-a-z0-9.]{1,61}[a-z0-9](/[-A-Za-z0-9._@+=~]+)*/?$"
GS_SOURCE: Final = r"^gs://[a-z0-9][-a-z0-9._]{1,220}[a-z0-9](/[-A-Za-z0-9._@+=~]+)*/?$"
"""A bucket of Google Cloud Storage may have dots, and is then as long as the name of a host."""
OSS_SOURCE: Final = r"^oss://[a-z0-9][-a-z0-9]{1,61}[a-z0-9](/[-A-Za-z0-9._@+=~]+)*/?$"
OCI_SOURCE: Final = (
    r"^oci://[A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]{1,5})?(/[a-z0-9][-a-z0-9._]*)+"
    r"(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,127})?(@sha256:[0-9a-f]{64})?$"
)
DOTS: Final = r"^.*/[.][.]?(/.*)?$"
"""A path with a segment `.` or `..`: it must not leave the volume."""
FOLDERS_OF_CAPSTAN: Final = (
    r"^/(dev|proc|sys|run|var/run|tmp|mnt/model|mnt/claims|etc/capstan|var/cache/capstan|var/lib/capstan)(/.*)?$"
)
"""What is mounted in a model's pod, and all that is in it."""
CHILD_NAME: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""Names of Services begin with a letter and have no dots."""

WINDOW: Final = r"^(minute|hour|day|[0-9]{1,4}h([0-9]{1,4}m)?([0-9]{1,5}s)?|[0-9]{1,6}m([0-9]{1,5}s)?|[0-9]{1,8}s)$"
PERIOD: Final = r"^(day|week|month|[0-9]{1,4}h([0-9]{1,4}m)?([0-9]{1,5}s)?|[0-9]{1,6}m([0-9]{1,5}s)?|[0-9]{1,8}s)$"
AMOUNT_OF_DOLLARS: Final = r"^[0-9]{1,7}(\.[0-9]{1,9})?$"
"""Down to a nano-dollar."""
WHOLE_GIBIBYTES: Final = r"^[1-9][0-9]{0,3}(Gi|Ti)$"
SHARE: Final = r"^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$"
TEMPERATURE: Final = r"^([01](\.[0-9]{1,4})?|2(\.0{1,4})?)$"
HEADER_NAME: Final = r"^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$"
CATEGORY: Final = r"^[A-Za-z0-9]([-A-Za-z0-9._/ ]*[A-Za-z0-9])?$"
REGION: Final = r"^[A-Z]{2}$"
LANGUAGE: Final = r"^[a-z]{2}$"
CRON: Final = r"^[0-9*,/#LW-]+( +[0-9A-Za-z*,/#-]+){4}$"
POSITIVE_DECIMAL: Final = r"^([0-9]*[1-9][0-9]*(\.[0-9]{1,6})?|[0-9]+\.[0-9]{0,5}[1-9][0-9]{0,5})$"
TIME_ZONE: Final = r"^[A-Za-z][-A-Za-z0-9_+]*(/[A-Za-z0-9][-A-Za-z0-9_+]*){0,2}$"

_LABELS = "beginning and ending with a letter or digit"

HINTS: Final[Mapping[str, str]] = {
    DNS_LABEL: f"lower case letters, digits and '-', {_LABELS}",
    DNS_SUBDOMAIN: f"lower case letters, digits, '-' and '.', {_LABELS}",
    MODEL_NAME: f"letters, digits and any of - . _ : / @, {_LABELS}",
    DATA_KEY: "letters, digits and any of - . _",
    LABEL_KEY: "a label key, such as example.com/name",
    LABEL_VALUE: f"letters, digits and any of - . _, {_LABELS}",
    ENV_NAME: "letters, digits and any of - . _, not beginning with a digit",
    IMAGE: "an image reference, such as registry.example.com/engine:1.0",
    TAG: "an image tag: letters, digits and any of - . _",
    EXTENDED_RESOURCE: "the name of an extended resource, such as nvidia.com/gpu",
    SOURCE: "hf://ORG/NAME, pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH, oss://BUCKET/PATH or oci://IMAGE",
    ADAPTER_SOURCE: "hf://ORG/NAME, pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH or oss://BUCKET/PATH",
    DRAFT_SOURCE: "hf://ORG/NAME or pvc://CLAIM/PATH",
    QUANTIZATION: "small letters and digits with '-' or '_' between them, such as fp8",
    PARSER: f"letters, digits and any of - . _, {_LABELS}, such as hermes",
    REVISION: "a branch, tag or commit: letters, digits and any of - . _ /",
    TOKENIZER: "NAME or ORG/NAME, of letters, digits and any of - . _",
    FILE_PATH: "an absolute path: letters, digits and any of - . _ @ + = ~ between its slashes",
    URL: "http://HOST or https://HOST with an optional port (1 to 65535) and path, without user, password or query",
    DECIMAL: 'a decimal number in quotes, such as "0.15"',
    FRACTION: 'a number from 0 to 1 in quotes, such as "0.7"',
    CPU: 'a CPU quantity greater than 0 in quotes, such as "4" or "500m"',
    BYTES: 'a size greater than 0 in quotes, such as "32Gi"',
    CHILD_NAME: "lower case letters, digits and '-', beginning with a letter and not ending with '-'",
    REASON: "a CamelCase word",
    WINDOW: "minute, hour, day or a duration of hours, minutes and seconds, such as 30s, 10m or 1h30m",
    PERIOD: "day, week, month or a duration of hours, minutes and seconds, such as 30m or 12h",
    AMOUNT_OF_DOLLARS: 'a number of dollars in quotes with at most 9 decimals, such as "20" or "0.5"',
    SHARE: 'a number from 0 to 1 in quotes with at most 6 decimals, such as "0.01"',
    WHOLE_GIBIBYTES: 'a whole number of Gi or Ti in quotes, such as "64Gi"',
    TEMPERATURE: 'a number from 0 to 2 in quotes with at most 4 decimals, such as "0.2"',
    HEADER_NAME: "the name of a header in lower case: letters, digits, '-' and '_'",
    CATEGORY: f"letters, digits, spaces and any of - . _ /, {_LABELS}",
    REGION: "the two capital letters of a country, such as DE",
    LANGUAGE: "the two small letters of a language, such as de",
    CRON: "five fields of cron with spaces between them, such as 0 8 * * MON-FRI",
    POSITIVE_DECIMAL: 'a decimal number greater than 0 in quotes, such as "1.5"',
    TIME_ZONE: "the name of a time zone, such as UTC or Europe/Berlin",
}
"""What a pattern allows, for people."""
