"""int8 and fp16 copies of a model, for more speed: where they are stored, and how they are made."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datasetkit.core.errors import MissingExtra, ModelFileError
from datasetkit.core.files import file_sha256, storage_error, write_atomic
from datasetkit.core.install import package_command
from taggers.base import Precision

# Part of the copy's name: raise it when the recipe changes.
RECIPES = {"int8": "dynamic-1", "fp16": "plain-1"}
# Convolutions are not quantized: on a CPU onnxruntime's integer ones are slower than its float32
# ones.
INT8_OPERATORS = ("MatMul",)
CHECKSUM_SUFFIX = ".sha256"


def cache_folder() -> Path:
    """Return the folder of the copies, which can be deleted: they are made again."""
    base = (
        os.environ.get("LOCALAPPDATA")
        if sys.platform == "win32"
        else os.environ.get("XDG_CACHE_HOME")
    )
    return Path(base or Path.home() / ".cache") / "datasetkit"


def weights_for(weights: Path, precision: Precision) -> Path:
    """Return the file to load for a precision: the model itself, or for int8 and fp16 its copy,
    which the first call makes.

    Raises MissingExtra without the package `onnx`, ModelFileError if the model cannot be converted.
    """
    if precision not in RECIPES:
        return weights
    copy = cache_folder() / f"{file_sha256(weights)[:40]}-{precision}-{RECIPES[precision]}.onnx"
    checksum = copy.with_name(copy.name + CHECKSUM_SUFFIX)
    if _is_intact(copy, checksum):
        return copy
    require_onnx(precision)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".dsk-") as folder:
            made = Path(folder) / "model.onnx"
            _convert(weights, made, precision)
            write_atomic(checksum, f"{file_sha256(made)}  {copy.name}\n".encode())
            made.replace(copy)
    except OSError as error:
        raise storage_error(copy, error) from error
    return copy


def require_onnx(precision: Precision) -> None:
    """Raise MissingExtra unless the package `onnx` is installed; it is not imported."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtra(
            f"--precision {precision} needs the package onnx, which is not installed",
            hint=package_command("onnx"),
        )


def _is_intact(copy: Path, checksum: Path) -> bool:
    return (
        copy.is_file()
        and checksum.is_file()
        and checksum.read_text("utf-8").split()[:1] == [file_sha256(copy)]
    )


def _convert(weights: Path, made: Path, precision: Precision) -> None:
    with _quiet():
        try:
            _CONVERTERS[precision](weights, made)
        except OSError:
            raise
        except Exception as error:
            # onnx and onnxruntime raise all kinds of errors on graphs that they do not support.
            raise ModelFileError(
                f"{weights} cannot be converted to {precision}: "
                f"{(str(error).splitlines() or [repr(error)])[0]}",
                hint="use --precision float32",
            ) from error


def _quantize(weights: Path, made: Path) -> None:
    """Write a copy with int8 matrices and a scale for each column; activations are quantized as it
    runs.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        weights,
        made,
        op_types_to_quantize=list(INT8_OPERATORS),
        per_channel=True,
        weight_type=QuantType.QInt8,
    )


def _halve(weights: Path, made: Path) -> None:
    """Write a copy that computes in float16, with float32 input and output."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(weights), keep_io_types=True), made)


_CONVERTERS = {"int8": _quantize, "fp16": _halve}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's advice, which it logs on the root logger, off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
