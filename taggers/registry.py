"""Which taggers there are, and how a name becomes one.

To add a tagger, write a class that follows `taggers.base.Tagger` and name it in TAGGERS. A class
that is built without arguments and has its `identity` as class attribute is complete; one that
needs files also has a static `resolve(name, options, reporter) -> Resolved`.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from typing import Any

from datasetkit import hub
from datasetkit.core.errors import ConfigError, ModelFileError, StorageError
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.core.suggest import did_you_mean
from taggers import models, sessions
from taggers.base import ResolvedTagger, Tagger, TaggerOptions

AUTO, BASIC, LOCAL = "auto", "basic", "local"
_WD14 = "taggers.wd14:Wd14Tagger"
# Strings, so that naming a tagger loads none of them.
TAGGERS: dict[str, str] = {
    **dict.fromkeys(models.MODELS, _WD14),
    BASIC: "taggers.basic:BasicTagger",
}


def names() -> tuple[str, ...]:
    """Return what `--tagger` takes, besides owner/repo[@revision]."""
    return (AUTO, *TAGGERS)


def open_tagger(
    name: str = AUTO, options: TaggerOptions | None = None, reporter: Reporter = SILENT
) -> Tagger:
    """Resolve a tagger, fetch what is missing, and load it."""
    found = resolve(name, options, reporter)
    if found.notice:
        reporter.warn(found.notice)
    found.fetch()
    return found.open()


def resolve(
    name: str = AUTO, options: TaggerOptions | None = None, reporter: Reporter = SILENT
) -> ResolvedTagger:
    """Find a tagger by name without loading it, so that scores under its identity can be read from
    the store.

    "auto" is the default WD14 model where it is cached or can be fetched (which happens here), else
    `basic` with a notice. A tagger that is named is that one or an error: ModelFileError or
    MissingExtra (exit 12) when it cannot be had, ConfigError for a name nobody knows.
    """
    options = options or TaggerOptions()
    require_known(name)
    sessions.require_provider(options.provider, options.precision)
    if name == BASIC:
        _require_basic_can(options)
    found = _auto(options, reporter) if name == AUTO else _named(name, options, reporter)
    return _with_notice(found, sessions.double_install())


def require_known(name: str) -> None:
    """Raise ConfigError, with the nearest name, unless `name` is a tagger's or has the form
    owner/repo[@revision].
    """
    if name in names():
        return
    if "/" in name:
        models.find(name)
        return
    otherwise = f"known: {', '.join(names())}, or owner/repo@revision"
    hint = did_you_mean(name, names(), otherwise, cutoff=0.4)
    raise ConfigError(f"unknown tagger {name!r}", hint=hint)


def _require_basic_can(options: TaggerOptions) -> None:
    """Refuse what the shipped tagger does not do: it is whole in the package, and runs on the CPU
    only.
    """
    if options.model_dir is not None:
        raise ConfigError("the tagger basic takes no --model-dir", hint="leave one of the two out")
    if not options.exact:
        raise ConfigError(
            "the tagger basic has no --precision and no --fast-decode", hint="leave them out"
        )
    if options.provider not in (AUTO, "cpu"):
        raise ModelFileError(
            f"the tagger basic does not run on {options.provider}", hint="leave --provider out"
        )


def _auto(options: TaggerOptions, reporter: Reporter) -> ResolvedTagger:
    if options.model_dir is not None:
        return _named(LOCAL, options, reporter)
    sessions.require_onnxruntime()
    try:
        models.fetch(models.MODELS[models.DEFAULT])
    except (hub.FetchError, StorageError) as reason:
        if options.provider not in (AUTO, "cpu") or not options.exact:
            raise  # basic does not replace a tagger that was named
        fallback = _named(BASIC, options, reporter)
        command = models.MODELS[models.DEFAULT].command
        return _with_notice(
            fallback, f"{reason.message}; tagging with basic instead (`{command}` fetches it)"
        )
    return _named(models.DEFAULT, options, reporter)


def _named(name: str, options: TaggerOptions, reporter: Reporter) -> ResolvedTagger:
    tagger = _load(TAGGERS.get(name, _WD14))
    if hasattr(tagger, "resolve"):
        resolved: ResolvedTagger = tagger.resolve(name, options, reporter)
        return resolved
    return ResolvedTagger(
        tagger.identity, open=partial(_build, name), fetch=_nothing, notice=tagger.notice
    )


def _build(name: str) -> Tagger:
    tagger: Tagger = _load(TAGGERS[name])()
    return tagger


def _nothing() -> None:
    """Everything that a tagger without `resolve` needs is part of the package."""


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _with_notice(found: ResolvedTagger, notice: str) -> ResolvedTagger:
    return replace(found, notice="; ".join(text for text in (notice, found.notice) if text))
