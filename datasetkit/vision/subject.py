"""Which pixels belong to the subject: the models of rembg by name, of which only the mask
is used.
"""

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
UNKNOWN_LICENCE = "not known here: ask its authors"
_IMPORTING = threading.Lock()
_UNFIT = {
    "sam": "it needs points that somebody clicks",
    "u2net_custom": "it needs a model file of your own",
    "dis_custom": "it needs a model file of your own",
    "ben_custom": "it needs a model file of your own",
}
# The models are unsure of a broad seam, in which the old background would shimmer through: from the
# lower to the upper bound (0..1) the mask rises from nothing to all, smoothly. Measured on drawings
# over painted backgrounds: the mask's mean error falls by a third, its overlap (IoU) stays.
EDGE = (0.2, 0.8)


class RembgSession(Protocol):
    """What is used of a rembg session. inner_session: onnxruntime's."""

    inner_session: Any

    def predict(self, img: Image.Image) -> Sequence[Image.Image]: ...


class SubjectFinder:
    """A model, loaded once. One image at a time goes through it, on all cores; it may be asked
    from several threads.

    name: of a rembg session. provider: a name of `providers.PROVIDERS` or "auto"; device: the one
    that it runs on. Raises ConfigError for a name that is none, MissingExtra without rembg or the
    provider, ModelFileError where the weights cannot be had or the provider does not start.
    """

    def __init__(self, name: str = DEFAULT, provider: str = providers.AUTO) -> None:
        self.name = name
        self._session = open_session(name, provider)
        self.device = providers.device(self._session.inner_session)
        self._turn = threading.Lock()

    def mask(self, image: Image.Image) -> Image.Image:
        """Return the mask (L, 255 for the subject) of an RGB image. Raises InputError where the
        model finds none.
        """
        with self._turn, np.errstate(invalid="raise", divide="raise"):
            try:
                masks = self._session.predict(image)
            except FloatingPointError:  # the model gave the same value everywhere
                raise InputError(
                    "no subject was found", hint="another --model, or cut it out by hand"
                ) from None
        joined = masks[0].convert("L")
        for mask in masks[1:]:  # one for each kind of garment, of u2net_cloth_seg
            joined = ImageChops.lighter(joined, mask.convert("L"))
        return firm(joined)


def firm(mask: Image.Image) -> Image.Image:
    """Make the edge of a model's mask (L) as narrow as `EDGE` says."""
    low, high = EDGE
    t = np.clip((np.arange(256) / 255 - low) / (high - low), 0.0, 1.0)
    return mask.point(np.rint(255 * t * t * (3 - 2 * t)).astype(int).tolist())


def require_name(name: str) -> None:
    """Raise ConfigError for a name that is no rembg session or none that works on images alone;
    no model is loaded.

    Names that this module does not list are looked up in rembg itself, which takes a second. Raises
    MissingExtra.
    """
    if name in LICENCES:
        return
    if name in _UNFIT:
        raise ConfigError(
            f"the model {name} cannot be used: {_UNFIT[name]}",
            hint=f"one of: {', '.join(LICENCES)}",
        )
    known = {session.name(): session for session in _rembg().sessions_class}
    if name not in known:
        hint = did_you_mean(name, LICENCES, f"one of: {', '.join(LICENCES)}")
        raise ConfigError(f"rembg has no model {name!r}", hint=hint)
    if not known[name].is_local():
        raise ConfigError(
            f"the model {name} sends images to a service", hint=f"one of: {', '.join(LICENCES)}"
        )


def require_rembg() -> None:
    """Raise MissingExtra without rembg and onnxruntime; nothing is loaded."""
    for module in ("onnxruntime", "rembg"):
        if importlib.util.find_spec(module) is None:
            raise _missing(module)


def licence(name: str) -> str:
    """Return the licence of a model's weights in words."""
    return LICENCES.get(name, UNKNOWN_LICENCE)


def open_session(name: str, provider: str = providers.AUTO) -> RembgSession:
    """Open a rembg session; the shipped model is read from the package, the others rembg downloads
    once.
    """
    require_name(name)
    providers.require_known(provider)
    sessions = _rembg()
    session_class = next(session for session in sessions.sessions_class if session.name() == name)
    options = session_options(os.cpu_count() or 1)
    chosen = providers.choose(provider)
    providers.preload(chosen)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as files_in_use:
            warnings.simplefilter("ignore")  # rembg's own word on a provider that does not start
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
            f"the model {name} cannot be had: {reason}",
            hint=f"rembg fetches it once, online, into ~/.rembg; {DEFAULT} works offline",
        ) from error
    providers.require_running(session.inner_session, provider)
    return session


def _rembg() -> Any:
    """Import rembg's sessions and nothing else of it. Raises MissingExtra.

    Its `__init__` loads what it mattes with, and compiles that when it is first loaded: seconds
    each time, and more than a minute once, for what is not used here. So the sessions are imported
    below an empty package.
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
                del sys.modules["rembg"]  # whoever imports it later gets all of it


def _missing(module: str) -> MissingExtra:
    return MissingExtra(
        f"cutting out needs rembg and onnxruntime ({module} is missing)",
        hint='pip install "datasetkit[cutout,cpu]"',
    )
