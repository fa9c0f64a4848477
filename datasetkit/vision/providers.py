"""The provider that an ONNX model runs on: exactly the given one, or with "auto" the best one that
the installed onnxruntime has.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Final

from datasetkit.core.errors import ConfigError, MissingExtra, ModelFileError
from datasetkit.core.install import package_command, replace_command
from datasetkit.core.suggest import did_you_mean

# The values of `--provider`, and onnxruntime's names. "auto" is the first of AUTO_ORDER that the
# installed onnxruntime has.
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
# The extra that installs a provider. The others come in packages of their makers.
EXTRA_OF: Final = {"cpu": "cpu", "cuda": "gpu", "tensorrt": "gpu"}


def require_known(provider: str) -> None:
    """Raise ConfigError for an unknown provider."""
    if provider != AUTO and provider not in PROVIDERS:
        names = [AUTO, *PROVIDERS]
        hint = did_you_mean(provider, names, f"one of: {', '.join(names)}")
        raise ConfigError(f"unknown provider {provider!r}", hint=hint)


def choose(provider: str, *, otherwise: str = "--provider cpu") -> str:
    """Return the provider to run on: the given one, or for "auto" the first of AUTO_ORDER.

    otherwise: the option to use if it is not installed. Raises MissingExtra if the installed
    onnxruntime does not have the provider.
    """
    import onnxruntime as ort

    available = ort.get_available_providers()
    if provider == AUTO:
        return next((name for name in AUTO_ORDER if PROVIDERS[name] in available), "cpu")
    if PROVIDERS[provider] not in available:
        extra = EXTRA_OF.get(provider)
        maker = f"{package_command(f'onnxruntime-{provider}')} in place of onnxruntime"
        hint = replace_command(["onnxruntime"], extra) if extra else maker
        raise MissingExtra(
            f"the installed onnxruntime cannot run on {provider}",
            hint=f"{hint}, or use {otherwise}",
        )
    return provider


def order(provider: str) -> list[str]:
    """Return onnxruntime's names of a provider and of the CPU, which runs the operators that the
    provider is missing.
    """
    return [PROVIDERS[provider]] + ([] if provider == "cpu" else [PROVIDERS["cpu"]])


def preload(provider: str) -> None:
    """Load the libraries that a provider needs from where pip installed them."""
    import onnxruntime as ort

    if provider == "cuda" and hasattr(ort, "preload_dlls"):  # since 1.21
        # It prints, and our stdout is for results only.
        with contextlib.redirect_stdout(sys.stderr):
            ort.preload_dlls()


def device(session: Any) -> str:
    """Return the name in PROVIDERS of the provider that a session runs on."""
    running = session.get_providers()[0]
    return next((name for name, theirs in PROVIDERS.items() if theirs == running), running)


def require_running(session: Any, provider: str) -> None:
    """Raise ModelFileError if a session runs on another provider than the given one.

    onnxruntime falls back to the CPU if a device's libraries cannot be loaded; "auto" accepts that.
    """
    if provider != AUTO and device(session) != provider:
        raise ModelFileError(
            f"the provider {provider} is installed but does not start here (running: "
            f"{device(session)})",
            hint="check the driver and the CUDA and cuDNN libraries, or use --provider cpu",
        )
