"""The table of all checks, in the order in which they run and are shown."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from datasetkit.checks import captions, folders, images, tags
from datasetkit.checks.base import Check
from datasetkit.core.ranges import one_of
from datasetkit.options.check import CheckOptions

CHECKS: Final = MappingProxyType(
    {
        check.name: check
        for check in (*images.CHECKS, *captions.CHECKS, *tags.CHECKS, *folders.CHECKS)
    }
)


def selected(options: CheckOptions) -> tuple[Check, ...]:
    """Return the checks that the options select. Raises ConfigError for an unknown name."""
    for key, names in (("only", options.only), ("skip", options.skip)):
        for name in names:
            one_of(key, name, *CHECKS)
    wanted = options.only or tuple(CHECKS)
    return tuple(
        check for name, check in CHECKS.items() if name in wanted and name not in options.skip
    )
