"""The captioners by name."""

from __future__ import annotations

import importlib
from typing import Any

from datasetkit.core.errors import ConfigError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.suggest import did_you_mean
from taggers import florence2_models
from taggers.captioner import CaptionerOptions, ResolvedCaptioner

SERVER = "server"
_FLORENCE2 = "taggers.florence2:Florence2Captioner"
# As strings, so that no captioner is imported before it is used.
ENGINES: dict[str, str] = {
    **dict.fromkeys((florence2_models.DEFAULT_NAME, *florence2_models.MODELS), _FLORENCE2),
    SERVER: "taggers.caption_server:ServerCaptioner",
}


def require_known(name: str) -> None:
    """Raise ConfigError, with the nearest name, for a name that is neither an engine's nor of the
    form owner/repo[@revision].
    """
    if name in ENGINES:
        return
    if "/" in name:
        florence2_models.find(name)
        return
    otherwise = f"known: {', '.join(ENGINES)}, or owner/repo@revision"
    raise ConfigError(
        f"unknown engine {name!r}", hint=did_you_mean(name, ENGINES, otherwise, cutoff=0.4)
    )


def resolve(
    name: str, options: CaptionerOptions | None = None, reporter: Reporter = SILENT
) -> ResolvedCaptioner:
    """Find a captioner by name without loading it, so that its descriptions can be read from the
    store.

    Raises ConfigError for an unknown name or options that do not fit, ModelFileError or
    MissingExtra if it is not available.
    """
    require_known(name)
    module, _, attribute = ENGINES.get(name, _FLORENCE2).partition(":")
    engine: Any = getattr(importlib.import_module(module), attribute)
    resolved: ResolvedCaptioner = engine.resolve(name, options or CaptionerOptions(), reporter)
    return resolved
