"""The pixels of the subject: the mask of one of rembg's models."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from PIL import Image, ImageChops

from datasetkit.core.errors import ConfigError, InputError, MissingExtra, ModelFileError
from datasetkit.core.install import install_command
from datasetkit.core.suggest import did_you_mean
from datasetkit.vision import providers
from datasetkit.vision.models import MODELS as PACKAGED
from datasetkit.vision.models import read_model, session_options

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "u2netp"
# Name of the rembg session -> licence of its weights, as their authors give it.
LICENCES = {
    "u2netp": "Apache-2.0, shipped",
    "u2net": "Apache-2.0",
    "u2net_human_seg": "Apache-2.0",
    "u2net_cloth_seg": "MIT",
    "silueta": "Apache-2.0",
    "isnet-general-use": "Apache-2.0",
    "isnet-anime": "Apache-2.0",
    "birefnet-general": "MIT",
    "birefnet-general-lite": "MIT",
    "birefnet-general-fp16": "MIT",
    "birefnet-portrait": "MIT",
    "birefnet-dis": "MIT",
    "birefnet-hrsod": "MIT",
    "birefnet-cod": "MIT",
    "birefnet-massive": "MIT",
    "bria-rmbg": "CC BY-NC 4.0: not for commercial use",
}
UNKNOWN_LICENCE = "unknown: ask its authors"
_IMPORTING = threading.Lock()
_UNFIT = {
    "sam": "it needs points to be clicked",
    "u2net_custom": "it needs a model file of your own",
    "dis_custom": "it needs a model file of your own",
    "ben_custom": "it needs a model file of your own",
}
# The models are unsure of a broad edge, in which the old background would show through. Between the
# lower and the upper bound (0 to 1) the mask rises smoothly from 0 to 1. Measured on drawings over
# painted backgrounds: the mask's mean error falls by a third, its overlap (IoU) does not change.
EDGE = (0.2, 0.8)


class RembgSession(Protocol):
    """The part of a rembg session that is used here. inner_session: onnxruntime's."""

    inner_session: Any

    def predict(self, img: Image.Image) -> Sequence[Image.Image]: ...


class SubjectFinder:
    """A model, loaded once. It takes one image at a time, on all cores; it may be called from
    several threads.

    name: of a rembg session. provider: a name of `providers.PROVIDERS`, or "auto". device: the
    provider that it runs on. Raises ConfigError for an unknown name, MissingExtra without rembg or
    the provider, ModelFileError if the weights cannot be loaded or the provider does not start.
    """

    def __init__(self, name: str = DEFAULT, provider: str = providers.AUTO) -> None:
        self.name = name
        self._session = open_session(name, provider)
        self.device = providers.device(self._session.inner_session)
        self._lock = threading.Lock()

    def mask(self, image: Image.Image) -> Image.Image:
        """Return the mask (L, 255 for the subject) of an RGB image.

        Raises InputError if the model finds no subject.
        """
        with self._lock, np.errstate(invalid="raise", divide="raise"):
            try:
                masks = self._session.predict(image)
            except FloatingPointError:  # the model gave the same value everywhere
                raise InputError(
                    "no subject was found", hint="try another --model, or cut it out by hand"
                ) from None
        joined = masks[0].convert("L")
        for mask in masks[1:]:  # one for each kind of garment, of u2net_cloth_seg
            joined = ImageChops.lighter(joined, mask.convert("L"))
        return firm(joined)


def firm(mask: Image.Image) -> Image.Image:
    """Narrow the edge of a model's mask (L) to the range `EDGE`."""
    low, high = EDGE
    t = np.clip((np.arange(256) / 255 - low) / (high - low), 0.0, 1.0)
    return mask.point(np.rint(255 * t * t * (3 - 2 * t)).astype(int).tolist())


def require_name(name: str) -> None:
    """Raise ConfigError for a name that is not a rembg session, or one that needs more than an
    image. No model is loaded.

    Names that LICENCES does not list are looked up in rembg, which takes a second. Raises
    MissingExtra.
    """
    if name in LICENCES:
        return
    if name in _UNFIT:
        raise ConfigError(
            f"the model {name} cannot be used: {_UNFIT[name]}",
            hint=f"one of: {', '.join(LICENCES)}",
        )
    sessions = {session.name(): session for session in _rembg().sessions_class}
    if name not in sessions:
        hint = did_you_mean(name, LICENCES, f"one of: {', '.join(LICENCES)}")
        raise ConfigError(f"rembg has no model {name!r}", hint=hint)
    if not sessions[name].is_local():
        raise ConfigError(
            f"the model {name} sends images to an online service",
            hint=f"one of: {', '.join(LICENCES)}",
        )


def require_rembg() -> None:
    """Raise MissingExtra without rembg or onnxruntime; nothing is loaded."""
    for module in ("onnxruntime", "rembg"):
        if importlib.util.find_spec(module) is None:
            raise _missing(module)


def licence(name: str) -> str:
    """Return the licence of a model's weights."""
    return LICENCES.get(name, UNKNOWN_LICENCE)


def open_session(name: str, provider: str = providers.AUTO) -> RembgSession:
    """Open a rembg session; rembg downloads its model once, unless it is the shipped one."""
    require_name(name)
    providers.require_known(provider)
    sessions = _rembg()
    session_class = next(session for session in sessions.sessions_class if session.name() == name)
    options = session_options(os.cpu_count() or 1)
    chosen = providers.choose(provider)
    providers.preload(chosen)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as files_in_use:
            warnings.simplefilter("ignore")  # rembg's own, about a provider that does not start
            if name == DEFAULT:
                read_model("cutout")  # checks its hash
                packaged = files("datasetkit.vision").joinpath("weights", PACKAGED["cutout"].file)
                path = files_in_use.enter_context(as_file(packaged))
                session_class = type(
                    "Shipped",
                    (session_class,),
                    {"download_models": classmethod(lambda *_, **__: path)},
                )
            session = cast(
                RembgSession, session_class(name, options, providers=providers.order(chosen))
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelFileError(
            f"the model {name} could not be loaded: {reason}",
            hint=f"rembg downloads it once into ~/.rembg; {DEFAULT} needs no download",
        ) from error
    providers.require_running(session.inner_session, provider)
    return session


def _rembg() -> Any:
    """Import rembg's sessions without the rest of rembg. Raises MissingExtra.

    Its `__init__` loads its matting code, which takes seconds, and over a minute the first time,
    when it is compiled. None of it is used here, so the sessions are imported below an empty
    package.
    """
    require_rembg()  # without onnxruntime, rembg would end the process
    with _IMPORTING:
        loaded = sys.modules.get("rembg.sessions")
        if loaded is not None:
            return loaded
        spec = importlib.util.find_spec("rembg")
        whole = "rembg" in sys.modules
        if not whole and spec is not None:
            sys.modules["rembg"] = importlib.util.module_from_spec(spec)  # not executed
        try:
            return importlib.import_module("rembg.sessions")
        except ImportError as error:
            raise _missing(error.name or "rembg") from error
        finally:
            if not whole:
                del sys.modules["rembg"]  # a later import loads all of it


def _missing(module: str) -> MissingExtra:
    return MissingExtra(
        f"a cutout needs rembg and onnxruntime ({module} is missing)",
        hint=install_command("cutout", "cpu"),
    )
