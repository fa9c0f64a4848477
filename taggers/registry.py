"""The taggers by name.

To add one, write a class that follows `taggers.base.Tagger` and name it in TAGGERS. A class without
constructor arguments and with `identity` as a class attribute is complete. One that needs files
also has a static method `resolve(name, options, reporter) -> ResolvedTagger`.
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
# As strings, so that no tagger is imported before it is used.
TAGGERS: dict[str, str] = {
    **dict.fromkeys(models.MODELS, _WD14),
    BASIC: "taggers.basic:BasicTagger",
}


def names() -> tuple[str, ...]:
    """Return the values of `--tagger`, besides owner/repo[@revision]."""
    return (AUTO, models.WD14, *TAGGERS)


def open_tagger(
    name: str = AUTO, options: TaggerOptions | None = None, reporter: Reporter = SILENT
) -> Tagger:
    """Find a tagger, download the files that are missing, and load it."""
    tagger = resolve(name, options, reporter)
    for warning in filter(None, (tagger.notice, tagger.fallback)):
        reporter.warn(warning)
    tagger.fetch()
    return tagger.open()


def resolve(
    name: str = AUTO, options: TaggerOptions | None = None, reporter: Reporter = SILENT
) -> ResolvedTagger:
    """Find a tagger by name without loading it, so that scores under its identity can be read from
    the store.

    "auto" is the default WD14 model if it is cached or can be downloaded (which happens here), else
    `basic` with a notice; "wd14" is the same model without the fallback. A named tagger has no
    fallback: ModelFileError or MissingExtra (exit 12) if it is not available, ConfigError for an
    unknown name.
    """
    options = options or TaggerOptions()
    require_known(name)
    sessions.require_provider(options.provider, options.precision)
    if name == BASIC:
        _require_options_of_basic(options)
    tagger = _auto(options, reporter) if name == AUTO else _named(name, options, reporter)
    return _with_notice(tagger, sessions.double_install())


def require_known(name: str) -> None:
    """Raise ConfigError, with the nearest name, for a name that is neither a tagger's nor of the
    form owner/repo[@revision].
    """
    if name in names():
        return
    if "/" in name:
        models.find(name)
        return
    otherwise = f"known: {', '.join(names())}, or owner/repo@revision"
    hint = did_you_mean(name, names(), otherwise, cutoff=0.4)
    raise ConfigError(f"unknown tagger {name!r}", hint=hint)


def _require_options_of_basic(options: TaggerOptions) -> None:
    """Raise an error for options that the basic tagger does not have: it is in the package, and
    runs on the CPU only.
    """
    if options.model_dir is not None:
        raise ConfigError("the tagger basic has no --model-dir", hint="leave one of the two out")
    if not options.exact:
        raise ConfigError(
            "the tagger basic has no --precision and no --fast-decode", hint="leave them out"
        )
    if options.provider not in (AUTO, "cpu"):
        raise ModelFileError(
            f"the tagger basic does not run on {options.provider}", hint="leave --provider out"
        )


# Who runs `dsk tag` without a connection wants captions at once, so `auto` does not fail. But
# nobody should believe that they are WD14's: the commands say so first and last.
def _auto(options: TaggerOptions, reporter: Reporter) -> ResolvedTagger:
    if options.model_dir is not None:
        return _named(LOCAL, options, reporter)
    sessions.require_onnxruntime()
    try:
        models.fetch(models.MODELS[models.DEFAULT])
    except (hub.FetchError, StorageError) as reason:
        if options.provider not in (AUTO, "cpu") or not options.exact:
            raise  # basic cannot replace it: it does not have these options
        command = models.MODELS[models.DEFAULT].command
        short = reason.message.partition(": cannot fetch")[0].rstrip(".")
        return replace(
            _named(BASIC, options, reporter),
            notice="tagging with the fallback basic, not WD14",
            fallback=f"{short}: `{command}` downloads it, or says why not",
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
    """Do nothing: a tagger without `resolve` has its files in the package."""


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _with_notice(tagger: ResolvedTagger, notice: str) -> ResolvedTagger:
    return replace(tagger, notice="; ".join(text for text in (notice, tagger.notice) if text))
