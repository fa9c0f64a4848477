"""How an ONNX model becomes a running session, on the device that was asked for and on no other."""

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
from datasetkit.vision import providers
from datasetkit.vision.providers import AUTO, PROVIDERS, device
from taggers import onnx_file

# Where a precision runs, the one for "auto" first: int8 and fp16 are models of their own, for the
# CPU and for graphics cards (a CPU computes fp16 as float32, no faster); only OpenVINO computes a
# float32 model in bf16.
PROVIDERS_OF = {
    "int8": ("cpu",),
    "bf16": ("openvino",),
    "fp16": ("cuda", "tensorrt", "rocm", "migraphx", "directml", "coreml", "cpu"),
}
# Where a batch is copied to the card's own memory once, and its scores back, instead of operator by
# operator.
BOUND = {"cuda": "cuda", "tensorrt": "cuda"}
# OpenVINO computes in bf16 on its own accord where the processor can: it is told what was asked
# for.
OPENVINO_PRECISION = {"float32": "f32", "bf16": "bf16"}
# onnxruntime logs at 3 what stops it; its warnings about graph optimisation say nothing to a person
# who tags.
LOG_ERRORS_ONLY = 3


def require_onnxruntime() -> None:
    """Raise MissingExtra unless onnxruntime can be imported; it is not imported here."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtra(
            "tagging needs the package onnxruntime, which is not installed",
            hint='pip install "datasetkit[cpu]", or "datasetkit[gpu]" for an NVIDIA card',
        )


def has(provider: str) -> bool:
    """Tell whether the installed onnxruntime was built with a provider; False without
    onnxruntime.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime as ort

    return PROVIDERS[provider] in ort.get_available_providers()


def double_install() -> str:
    """Return a warning when onnxruntime and onnxruntime-gpu are both installed, else ""."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _installed(name)]
    if len(both) < 2:
        return ""
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
        "pip uninstall both, then install datasetkit[cpu] or datasetkit[gpu]"
    )


def require_provider(provider: str, precision: str = "float32") -> None:
    """Raise ConfigError for a provider nobody knows, or one that cannot compute in the precision
    asked for.
    """
    providers.require_known(provider)
    able = PROVIDERS_OF.get(precision)
    if able and provider not in (AUTO, *able):
        raise ConfigError(
            f"{precision} does not run on {provider}",
            hint=f"leave --provider out, or give {able[0]}",
        )


def open_session(
    path: Path, *, provider: str = AUTO, threads: int = 0, precision: str = "float32"
) -> Any:
    """Open an onnxruntime InferenceSession on the provider that was asked for.

    provider: a name of PROVIDERS or "auto". threads: inside one operator on the CPU, 0 = one for
    each core. precision: "bf16" makes OpenVINO compute in it; for "int8" and "fp16" the file has to
    be one already. Raises ConfigError for an unknown provider, MissingExtra when the installed
    onnxruntime has it not, and ModelFileError when the file or the device cannot be used. Never
    runs on another device instead.
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
    """Return a warning when "auto" runs on the CPU although onnxruntime was built for a graphics
    card, else "".
    """
    wanted = providers.choose(AUTO)
    if provider != AUTO or device(session) == wanted:
        return ""
    return (
        f"tagging on the CPU: onnxruntime was built for {wanted}, but {wanted} does not "
        "start on this machine"
    )


def runner(
    session: Any, input_name: str, output_name: str
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return what takes a batch through a session: input (batch, ...) to output (batch, ...), both
    in main memory.
    """
    memory = BOUND.get(device(session))
    if memory is None:
        return lambda batch: np.asarray(session.run([output_name], {input_name: batch})[0])
    return _Bound(session, input_name, output_name, memory).run


class _Bound:
    """A session whose input and output lie in the device's memory; the input has one place for each
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
        # the last one's shape would stay, and the last batch is a smaller one
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
        # Its own fallback would print to stdout and go on with another device.
        return ort.InferenceSession(path, options, providers=wanted, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ModelFileError(
            f"{path}: onnxruntime cannot load this model: {str(error).splitlines()[0]}",
            hint="fetch the model again; a newer model may need a newer onnxruntime",
        ) from error


def _openvino(precision: str, threads: int) -> dict[str, str]:
    """Return the provider's options: its CPU plugin, told the precision and the threads in its own
    form.
    """
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
