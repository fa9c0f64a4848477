"""A short training of the tiny base on the device, compared with the same one in float32 on the
CPU.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
from safetensors.torch import load_file
from torch import Tensor

from datasetkit.core.stopping import RunPause, StopRequests
from datasetkit.options.train import TrainOptions
from tests.gpu.rows import REFERENCE, Row
from tests.trainer import tiny
from trainer import device, setup
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import TrainedLora, train
from trainer.tinybase.shipped import FOLDER

STEPS: Final = 8
_REFERENCE: Final = "reference.json"


def measure(row: Row, work: Path, *, cpu: bool) -> dict[str, Any]:
    """Train and return the row's values. work: of all rows, where the reference is kept."""
    settings = dict(row.settings)
    bounds = settings.pop("bounds", None)
    folder = work / row.name.replace(" ", "-").replace(":", "").replace(",", "")
    if settings.pop("resumes", False):
        return _resumed(folder)
    with ExitStack() as patches:
        # What the trainer decides by the device.
        channels_last = settings.pop("channels_last", None)
        if channels_last is not None:
            patches.enter_context(
                patch.object(device, "prefers_channels_last", lambda context: channels_last)
            )
        if cpu:  # the CPU's compiler takes minutes
            patches.enter_context(patch.object(setup, "_COMPILER", "aot_eager"))
        result = _trained(folder, settings)
    values: dict[str, Any] = {"loss": result.loss, "note": _note(row, cpu=cpu)}
    if row.name == REFERENCE:
        reference = {"loss": result.loss, "lora": str(result.files[-1])}
        (work / _REFERENCE).write_text(json.dumps(reference), encoding="utf-8")
        return values
    reference = json.loads((work / _REFERENCE).read_text(encoding="utf-8"))
    values["loss difference"] = abs(result.loss - reference["loss"]) / reference["loss"]
    values["cosine"] = cosine(load_file(result.files[-1]), load_file(reference["lora"]))
    loss, least = bounds
    values["bounds"] = f"{loss:g}, {least:g}"
    if not (values["loss difference"] <= loss and values["cosine"] >= least):
        values["status"] = "failed"
        values["note"] = "outside the bounds"
    return values


def _note(row: Row, *, cpu: bool) -> str:
    if cpu and row.settings.get("torch_compile"):
        return "with aot_eager"
    return "in float32" if cpu and row.settings.get("mixed_precision") == "fp16" else ""


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Return the cosine between the up factors of two LoRAs: they start at 0, so that training
    made all of them.
    """
    keys = sorted(key for key in a if "lora_up" in key)
    first, second = (torch.cat([t[key].double().flatten() for key in keys]) for t in (a, b))
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


def _trained(
    folder: Path, settings: Mapping[str, Any], *, resume: bool = False, stop_after: int = 0
) -> TrainedLora:
    data = folder / "data"
    if not data.exists():
        tiny.save_images(data / "train" / "1_sks", [(128, 128)] * 4)
    given: dict[str, Any] = {
        "max_train_steps": STEPS, "train_batch_size": 2, "learning_rate": 1e-3,
        "text_encoder_lr": 1e-4, **settings,
    }  # fmt: skip
    options: TrainOptions = tiny.options(FOLDER, folder / "out", **given)
    plan = make_plan(find_subsets(data, options)[0], options)
    return train(options, plan, resume=resume, stop=_stop_after(stop_after))


def _stop_after(steps: int) -> StopRequests | None:
    """Return what asks a run to stop after so many steps; 0: never."""
    if not steps:
        return None
    asked = iter([None] * (steps - 1))
    return StopRequests(read=lambda: next(asked, "save"))


def _resumed(folder: Path) -> dict[str, Any]:
    """Train once to the end, and once in two runs, with PyTorch's deterministic kernels."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    whole = _trained(folder / "whole", {})
    try:
        _trained(folder / "halves", {}, stop_after=STEPS // 2)
    except RunPause:
        pass
    else:
        raise RuntimeError("the run did not stop")
    result = _trained(folder / "halves", {}, resume=True)
    if result.start != STEPS // 2:
        raise RuntimeError(f"resumed after step {result.start}")
    a, b = load_file(whole.files[-1]), load_file(result.files[-1])
    largest = max(float((a[key].double() - b[key].double()).abs().max()) for key in a)
    note = "identical" if all(torch.equal(a[key], b[key]) for key in a) else "not identical"
    return {
        "loss": result.loss,
        "cosine": cosine(a, b),
        "note": f"{note} to a run without a stop; largest difference of a weight {largest:.3g}",
    }


# cuBLAS reads it when it starts; with it its results are the same in every run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
