"""The small ONNX models that come with the package: their files and hashes, and how to open one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from datasetkit.core.errors import ConfigError, MissingExtra, ModelFileError
from datasetkit.core.install import install_command, reinstall_command

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions


def reinstall() -> str:
    return f"the installation is damaged: {reinstall_command()}"


# onnxruntime's log severity: its warnings about unused initializers are of no use to a person.
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """One file in `vision/weights/` and its sha256; its origin and licence are in the NOTICE
    there.
    """

    file: str
    sha256: str


MODELS = {
    "nouns": PackagedModel(
        "efficientnet_lite0.onnx",
        "09d98b78eca5f924e461ad75d2cd9416fe78fd513b430154256cce59f7f9c6fd",
    ),
    "medium": PackagedModel(
        "nsfwjs_mobilenet_v2_mid.onnx",
        "644cdc9495beb4748808c926dafa6c40d0879769c8aacd3c0c9ca2d0eac32bb0",
    ),
    "faces": PackagedModel(
        "blazeface_back_256.onnx",
        "427cbbe0fc41448d09e1dc9cfabe2423d997cf2faaeab91fadd09a510b63b8e2",
    ),
    "text": PackagedModel(
        "ppocrv6_det_tiny.onnx", "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"
    ),
    "cutout": PackagedModel(
        "u2netp.onnx", "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
    ),
}


def read_model(name: str) -> bytes:
    """Return the bytes of a packaged model after checking their sha256.

    Raises ConfigError for an unknown name, ModelFileError for a file that is missing or damaged.
    """
    if name not in MODELS:
        raise ConfigError(
            f"unknown packaged model {name!r}", hint=f"one of: {', '.join(sorted(MODELS))}"
        )
    model = MODELS[name]
    path = files("datasetkit.vision").joinpath("weights", model.file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"the packaged model {model.file} cannot be read: {error}", hint=reinstall()
        ) from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != model.sha256:
        raise ModelFileError(
            f"the packaged model {model.file} has another sha256 ({actual[:12]}…, expected "
            f"{model.sha256[:12]}…)",
            hint=reinstall(),
        )
    return data


def open_model(name: str, threads: int = 1) -> InferenceSession:
    """Open a packaged model on the CPU; the session may be called from many threads.

    name: a key of `MODELS`. threads: how many cores one call may use. Raises MissingExtra if
    onnxruntime is not installed, and what `read_model` raises.
    """
    options = session_options(threads)
    import onnxruntime

    return onnxruntime.InferenceSession(
        read_model(name), options, providers=["CPUExecutionProvider"]
    )


def session_options(threads: int = 1) -> SessionOptions:
    """Return the options of a session on the CPU. Raises MissingExtra without onnxruntime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("this needs onnxruntime", hint=install_command("cpu")) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Idle threads sleep instead of spinning, which makes two threads slower than one on a busy
    # machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
