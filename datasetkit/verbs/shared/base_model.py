"""The base model of a command that draws with one: its options, its files, and how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from datasetkit.core.errors import MissingExtra
from datasetkit.core.install import install_command
from datasetkit.core.progress import Reporter
from datasetkit.options.toml import Config
from datasetkit.options.train import TrainOptions
from datasetkit.project.session import RunContext
from datasetkit.verbs.shared import gpus


def train_options(config: Config, table: str, base: str) -> TrainOptions:
    """Return `[train]` with the base of a command; the revision and VAE of [train] are only for
    its own base. table: of dsk.toml, whose paths are relative to its folder.
    """
    from trainer.config import of_project
    from trainer.tinybase import shipped

    root = config.root
    if (
        root is not None
        and base
        and base == config.table(table).get("base")
        and base != shipped.NAME
    ):
        base = str(root / base) if (root / base).exists() else base
    overrides = {"pretrained_model_name_or_path": base, "revision": "", "vae": ""} if base else {}
    return of_project(config, overrides, only_read=True)


def require(train: TrainOptions) -> None:
    """Raise the errors of the files of the base model before any work."""
    from trainer.families.detect import detect
    from trainer.families.source import find

    detect(find(train.pretrained_model_name_or_path, train.revision))


@contextmanager
def gpu(context: RunContext) -> Iterator[None]:
    """Hold the GPU that base models are loaded on. Raises MissingExtra, Locked."""
    _generator()  # without torch no GPU is known
    with gpus.held(context):
        yield


def load(train: TrainOptions, reporter: Reporter) -> Any:
    """Load the base model as an ImageGenerator, while `gpu` is held. Raises MissingExtra,
    ModelFileError.
    """
    return _generator().load(train, reporter)


def _generator() -> ModuleType:
    from trainer import cpu_threads

    cpu_threads.set_environment()
    try:
        from trainer.monitor import image_generator
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"generating images needs the package {error.name}",
            hint=install_command("train"),
        ) from error
    return image_generator


def name_of(loaded: Any) -> str:
    """Return the name of a loaded base model without local folders."""
    base = loaded.options.pretrained_model_name_or_path
    return str(loaded.source.name) if Path(base).exists() else str(base)
