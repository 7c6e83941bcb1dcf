"""Words of CEL that several rules say."""


def empty(*fields: str) -> str:
    """CEL: lists and maps that are absent or empty."""
    return " && ".join(f"(!has(self.{field}) || size(self.{field}) == 0)" for field in fields)


def absent(*fields: str) -> str:
    """CEL: fields that are not set."""
    return " && ".join(f"!has(self.{field})" for field in fields)


def quoted(pattern: str) -> str:
    """CEL: a pattern in a string."""
    return pattern.replace("\\", "\\\\")
