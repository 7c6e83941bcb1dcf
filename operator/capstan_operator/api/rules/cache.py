"""The claim for the weights."""

from capstan_operator.api.schema import Rule

_THROW_AWAY = "cannot change; to throw the volume away delete the claim, or remove `cache` with `retain: false`"
_SIZED = "has(self.size) && has(oldSelf.size)"
CACHE = (
    Rule(
        cel="has(self.claimName) != has(self.size)",
        message="must have exactly one of `claimName` and `size`",
        holds=lambda self: (self.claimName is None) != (self.size is None),
    ),
    Rule(
        cel="!has(self.storageClassName) || has(self.size)",
        message="must not be set without `size`",
        holds=lambda self: self.storageClassName is None or self.size is not None,
        field_path=".storageClassName",
    ),
    Rule(
        cel="self.accessMode == 'ReadWriteOnce' || has(self.size)",
        message="must not be set without `size`",
        holds=lambda self: self.accessMode == "ReadWriteOnce" or self.size is not None,
        field_path=".accessMode",
    ),
    Rule(
        cel="!has(self.retain) || has(self.size)",
        message="must not be set without `size`: an existing claim is never deleted",
        holds=lambda self: self.retain is None or self.size is not None,
        field_path=".retain",
    ),
    Rule(
        cel=f"!({_SIZED}) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        message="cannot shrink; a volume only grows",
        field_path=".size",
    ),
    Rule(
        cel=f"!({_SIZED}) || (has(self.storageClassName) == has(oldSelf.storageClassName)"
        " && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName))",
        message=_THROW_AWAY,
        field_path=".storageClassName",
    ),
    Rule(
        cel=f"!({_SIZED}) || self.accessMode == oldSelf.accessMode",
        message=_THROW_AWAY,
        field_path=".accessMode",
    ),
)
