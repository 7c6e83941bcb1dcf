"""What a client says about caching in `Cache-Control` of its request: RFC 9111, section 5.2.1. Pure.

    no-cache          asked anew, and stored                no-store          neither looked for nor stored
    max-age=N         nothing older than N seconds           only-if-cached    nothing but what is there: else 504

Directives that are not known are passed over, as the RFC asks; so is one whose number cannot be read, but for
`max-age`, which is then 0: who bounds the age does not mean any age.
"""

from typing import Final, NamedTuple

_MOST: Final = 2**31
_MOST_BYTES: Final = 1024


class Control(NamedTuple):
    """What a request says. The default is what one says that says nothing."""

    look: bool = True
    """Whether an answer that is there may be given."""
    store: bool = True
    max_age: int | None = None
    """Seconds; None: any age."""
    only_if_cached: bool = False


ANYTHING: Final = Control()
NOTHING: Final = Control(look=False, store=False)


def read_control(header: bytes, pragma: bytes = b"") -> Control:
    """Read the values of `Cache-Control` and, where there is none, `Pragma`; several lines joined by commas."""
    if not header:
        return Control(look=False) if b"no-cache" in pragma.lower() else ANYTHING
    control = ANYTHING
    for directive in header[:_MOST_BYTES].lower().split(b","):
        name, _, value = directive.strip().partition(b"=")
        name, value = name.strip(), value.strip().strip(b'"')
        if name == b"no-cache":
            control = control._replace(look=False)
        elif name == b"no-store":
            control = control._replace(look=False, store=False)
        elif name == b"only-if-cached":
            control = control._replace(only_if_cached=True)
        elif name == b"max-age":
            age = min(int(value[:12]), _MOST) if value.isdigit() else 0
            control = control._replace(max_age=age if control.max_age is None else min(age, control.max_age))
    return control
