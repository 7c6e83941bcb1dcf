"""The gateway's process."""

import gc
import logging
import os
import sys

import uvloop

from capstan_gateway.process import serve
from capstan_gateway.settings import parse_settings
from capstan_process.logs import configure_logging
from capstan_process.settings import SettingsError, describe

log = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)
"""Requests make few cycles; the default of 700 looks for them every few requests."""


def main() -> None:
    """Run the gateway until it is told to stop."""
    try:
        settings = parse_settings(sys.argv[1:], os.environ)
        configure_logging(level=settings.log_level, form=settings.log_format)
        log.info("started the gateway", extra={"configuration": describe(settings)})
        gc.set_threshold(*GC_THRESHOLDS)
        gc.freeze()
        code = uvloop.run(serve(settings))
    except SettingsError as error:
        print(f"capstan-gateway: {error}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        raise SystemExit(2) from None
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
