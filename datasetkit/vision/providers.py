"""Where an ONNX model runs: the provider that was asked for and no other, or the best one that is
built in.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Final

from datasetkit.core.errors import ConfigError, MissingExtra, ModelFileError
from datasetkit.core.suggest import did_you_mean

# What `--provider` takes, and onnxruntime's own names. "auto" is the first of AUTO_ORDER that is
# built in.
PROVIDERS: Final = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
AUTO: Final = "auto"
AUTO_ORDER: Final = ("cuda", "cpu")
# Which distribution holds a provider, where it is one of ours; the others have packages of their
# makers.
EXTRA_OF: Final = {"cpu": "cpu", "cuda": "gpu", "tensorrt": "gpu"}


def require_known(provider: str) -> None:
    """Raise ConfigError for a provider nobody knows."""
    if provider != AUTO and provider not in PROVIDERS:
        names = [AUTO, *PROVIDERS]
        hint = did_you_mean(provider, names, f"one of: {', '.join(names)}")
        raise ConfigError(f"unknown provider {provider!r}", hint=hint)


def choose(provider: str, *, otherwise: str = "--provider cpu") -> str:
    """Return the provider to run on: what was asked for, or the first of AUTO_ORDER that is built
    in.

    otherwise: what a person can do who has it not. Raises MissingExtra where the installed
    onnxruntime has it not.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    if provider == AUTO:
        return next((name for name in AUTO_ORDER if PROVIDERS[name] in available), "cpu")
    if PROVIDERS[provider] not in available:
        extra = EXTRA_OF.get(provider)
        maker = f"pip install onnxruntime-{provider} in place of onnxruntime"
        hint = f'pip install "datasetkit[{extra}]"' if extra else maker
        raise MissingExtra(
            f"the installed onnxruntime cannot run on {provider}",
            hint=f"{hint}, or use {otherwise}",
        )
    return provider


def order(provider: str) -> list[str]:
    """Return onnxruntime's names of a chosen provider and of the CPU, which takes the operators
    that it has not.
    """
    return [PROVIDERS[provider]] + ([] if provider == "cpu" else [PROVIDERS["cpu"]])


def preload(provider: str) -> None:
    """Load the libraries that a provider needs from where pip installed them."""
    import onnxruntime as ort

    if provider == "cuda" and hasattr(ort, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # it prints, and our stdout carries results only
            ort.preload_dlls()


def device(session: Any) -> str:
    """Return the provider a session runs on, by its name in PROVIDERS."""
    running = session.get_providers()[0]
    return next((name for name, theirs in PROVIDERS.items() if theirs == running), running)


def require_running(session: Any, provider: str) -> None:
    """Raise ModelFileError where a session runs on another provider than the one that was asked
    for.

    onnxruntime goes on with the CPU when a device's libraries do not load; "auto" accepts that.
    """
    if provider != AUTO and device(session) != provider:
        raise ModelFileError(
            f"the provider {provider} is installed but does not start here (running: "
            f"{device(session)})",
            hint="check the driver and the CUDA and cuDNN libraries, or use --provider cpu",
        )
