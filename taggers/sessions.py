"""Open an ONNX model as a session on exactly the given provider."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasetkit.core.errors import ConfigError, MissingExtra, ModelFileError
from datasetkit.core.install import install_command, replace_command
from datasetkit.vision import providers
from datasetkit.vision.providers import AUTO, PROVIDERS, device
from taggers import onnx_file

# The providers of each precision, the one for "auto" first. int8 and fp16 are converted models, for
# the CPU and for graphics cards (a CPU computes fp16 as float32, no faster); only OpenVINO computes
# a float32 model in bf16.
PROVIDERS_OF = {
    "int8": ("cpu",),
    "bf16": ("openvino",),
    "fp16": ("cuda", "tensorrt", "rocm", "migraphx", "directml", "coreml", "cpu"),
}
# Providers for which a batch is copied to the card's memory once, and its scores back.
BOUND = {"cuda": "cuda", "tensorrt": "cuda"}
# OpenVINO uses bf16 by itself if the processor has it, so the precision is always set.
OPENVINO_PRECISION = {"float32": "f32", "bf16": "bf16"}
# onnxruntime's severity of errors; its warnings about graph optimisation are of no use here.
LOG_ERRORS_ONLY = 3


def require_onnxruntime() -> None:
    """Raise MissingExtra unless onnxruntime is installed; it is not imported."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra(
            "tagging needs the package onnxruntime, which is not installed",
            hint=f"{install_command('cpu')}, or the extra gpu for an NVIDIA card",
        )


def has(provider: str) -> bool:
    """Tell whether the installed onnxruntime has a provider; False without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime as ort

    return PROVIDERS[provider] in ort.get_available_providers()


def double_install() -> str:
    """Return a warning if onnxruntime and onnxruntime-gpu are both installed, else ""."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) < 2:
        return ""
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
        + replace_command(("onnxruntime", "onnxruntime-gpu"), "cpu")
        + ", or the extra gpu"
    )


def require_provider(provider: str, precision: str = "float32") -> None:
    """Raise ConfigError for an unknown provider, or one that does not have the precision."""
    providers.require_known(provider)
    supported = PROVIDERS_OF.get(precision)
    if supported and provider not in (AUTO, *supported):
        raise ConfigError(
            f"{precision} does not run on {provider}",
            hint=f"leave --provider out, or give {supported[0]}",
        )


def open_session(
    path: Path, *, provider: str = AUTO, threads: int = 0, precision: str = "float32"
) -> Any:
    """Open an onnxruntime InferenceSession on the given provider, and never on another one.

    provider: a name of PROVIDERS, or "auto". threads: within one operator on the CPU, 0 = one for
    each core. precision: "bf16" makes OpenVINO compute in it; for "int8" and "fp16" the file must
    be a converted one. Raises ConfigError for an unknown provider, MissingExtra if the installed
    onnxruntime does not have it, ModelFileError if the file or the provider cannot be used.
    """
    require_provider(provider, precision)
    if precision in PROVIDERS_OF and provider == AUTO:
        provider = PROVIDERS_OF[precision][0]
    require_onnxruntime()
    onnx_file.check(path)
    import onnxruntime as ort

    ort.disable_telemetry_events()
    otherwise = "--provider cpu" if precision == "float32" else "--precision float32"
    session = _session(
        ort, path, providers.choose(provider, otherwise=otherwise), threads, precision
    )
    providers.require_running(session, provider)
    return session


def idle_card(session: Any, provider: str) -> str:
    """Return a warning if "auto" runs on the CPU although onnxruntime was built for a graphics
    card, else "".
    """
    wanted = providers.choose(AUTO)
    if provider != AUTO or device(session) == wanted:
        return ""
    return (
        f"tagging on the CPU: onnxruntime was built for {wanted}, but {wanted} does not start on "
        "this machine"
    )


def runner(
    session: Any, input_name: str, output_name: str
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return the function that runs a batch: input (batch, ...) to output (batch, ...), both in
    main memory.
    """
    memory = BOUND.get(device(session))
    if memory is None:
        return lambda batch: np.asarray(session.run([output_name], {input_name: batch})[0])
    return _Bound(session, input_name, output_name, memory).run


class _Bound:
    """A session with its input and output in the device's memory, with one input buffer for each
    shape of batch.
    """

    def __init__(self, session: Any, input_name: str, output_name: str, memory: str) -> None:
        import onnxruntime as ort

        self._session, self._input, self._output, self._memory = (
            session,
            input_name,
            output_name,
            memory,
        )
        self._values: dict[tuple[int, ...], Any] = {}
        self._empty = ort.OrtValue.ortvalue_from_shape_and_type
        self._binding = session.io_binding()

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch.shape not in self._values:
            self._values[batch.shape] = self._empty(batch.shape, np.float32, self._memory, 0)
        value = self._values[batch.shape]
        value.update_inplace(batch)
        self._binding.bind_ortvalue_input(self._input, value)
        # Otherwise the output keeps the shape of the batch before, and the last batch is smaller.
        self._binding.clear_binding_outputs()
        self._binding.bind_output(self._output, self._memory)
        self._session.run_with_iobinding(self._binding)
        return np.asarray(self._binding.copy_outputs_to_cpu()[0])


def _session(ort: Any, path: Path, provider: str, threads: int, precision: str) -> Any:
    providers.preload(provider)
    options = ort.SessionOptions()
    options.log_severity_level = LOG_ERRORS_ONLY
    options.intra_op_num_threads = threads
    wanted: list[Any] = list(providers.order(provider))
    if provider == "openvino":
        wanted[0] = (PROVIDERS[provider], _openvino(precision, threads))
    try:
        # Its own fallback prints to stdout and uses another device.
        return ort.InferenceSession(path, options, providers=wanted, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelFileError(
            f"{path}: onnxruntime cannot load this model: {str(error).splitlines()[0]}",
            hint="download the model again; a newer model may need a newer onnxruntime",
        ) from error


def _openvino(precision: str, threads: int) -> dict[str, str]:
    """Return the options of the OpenVINO provider: its CPU plugin with a precision and threads."""
    cpu = {"INFERENCE_PRECISION_HINT": OPENVINO_PRECISION[precision]}
    if threads:
        cpu["INFERENCE_NUM_THREADS"] = str(threads)
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": cpu})}


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
