"""One function for each verb: what the command line, a notebook and any other program call.

    from pathlib import Path
    from datasetkit import api

    result = api.tag(Path("imgs"), api.TagOptions(trigger=("MikamiYua",), exclude=("lips", "nose")))
    for done in result.report.done:
        print(done.record.path.name, done.value.text())

Each takes the verb's options object and, where it changes something, `RunContext(dry_run=...,
wait=..., reporter=...)`; it returns a frozen result, or raises a `DskError`
(datasetkit/core/errors.py) and has changed nothing.

Training has two functions: the plan is made first and needs no torch.

    plan = api.plan_training(Path("dataset"), settings={"pretrained_model_name_or_path": "tiny"})
    print(plan.steps, plan.memory_bytes)
    result = api.train(plan)
    print(result.training.files[-1])

Work on images can run on a Ray cluster (docs/scale.md):

    with api.connected(api.ExecutorOptions(address="ray://10.0.0.1")) as cluster:
        api.tag(Path("imgs"), api.TagOptions(), api.RunContext(cluster=cluster))

`plan_training` reads `[train]` of the dsk.toml that governs the folder, or takes whole
`TrainOptions`. `studio(folder, options, ready=...)` and `review(...)` serve the page until it is
stopped, and call `ready` with the address once browsers can connect.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from datasetkit.options.toml import Config
from datasetkit.options.toml import find as find_config
from datasetkit.options.toml import load as load_config
from datasetkit.project.session import RunContext

if TYPE_CHECKING:
    from datasetkit.options.caption import CaptionOptions
    from datasetkit.options.check import CheckOptions
    from datasetkit.options.dataset import (
        ExportOptions,
        ImportOptions,
        LayoutOptions,
        PlanRepeatsOptions,
        ReportOptions,
    )
    from datasetkit.options.executor import ExecutorOptions
    from datasetkit.options.find_lr import FindLrOptions
    from datasetkit.options.grid import GridOptions
    from datasetkit.options.images import CutoutOptions, FacesOptions, RenameOptions, ResizeOptions
    from datasetkit.options.keep import KeepOptions
    from datasetkit.options.lora import (
        LoraCheckOptions,
        LoraConvertOptions,
        LoraExtractOptions,
        LoraMergeOptions,
        LoraResizeOptions,
    )
    from datasetkit.options.publish import PublishOptions
    from datasetkit.options.reg import RegGenerateOptions, RegOptions
    from datasetkit.options.review import ReviewOptions
    from datasetkit.options.run import ConceptOptions, RunOptions
    from datasetkit.options.tag import RulesOptions, TagOptions
    from datasetkit.options.train import TrainOptions
    from datasetkit.verbs.caption import caption
    from datasetkit.verbs.check import check
    from datasetkit.verbs.check_as_sd_scripts import as_sd_scripts
    from datasetkit.verbs.cutout import cutout
    from datasetkit.verbs.doctor import doctor
    from datasetkit.verbs.export import export
    from datasetkit.verbs.faces_crop import crop_faces
    from datasetkit.verbs.faces_erase import erase_faces
    from datasetkit.verbs.faces_list import list_faces
    from datasetkit.verbs.find_lr import find_lr
    from datasetkit.verbs.grid import grid
    from datasetkit.verbs.history import forget, history, interrupted, projects_below, recover
    from datasetkit.verbs.import_ import import_captions
    from datasetkit.verbs.import_dataset import import_dataset
    from datasetkit.verbs.import_shards import import_shards
    from datasetkit.verbs.init import init, init_example
    from datasetkit.verbs.jobs_add import add_job
    from datasetkit.verbs.jobs_ask import ask_job
    from datasetkit.verbs.jobs_hold import hold_job
    from datasetkit.verbs.jobs_list import jobs
    from datasetkit.verbs.jobs_log import job_log
    from datasetkit.verbs.jobs_move import move_job
    from datasetkit.verbs.jobs_remove import remove_job
    from datasetkit.verbs.jobs_resume import resume_job
    from datasetkit.verbs.jobs_runner import run_jobs
    from datasetkit.verbs.jobs_stop import stop_job
    from datasetkit.verbs.keep import keep
    from datasetkit.verbs.layout import layout
    from datasetkit.verbs.lora_check import lora_check
    from datasetkit.verbs.lora_convert import lora_convert
    from datasetkit.verbs.lora_extract import lora_extract
    from datasetkit.verbs.lora_info import lora_info
    from datasetkit.verbs.lora_merge import lora_merge
    from datasetkit.verbs.lora_resize import lora_resize
    from datasetkit.verbs.models_download import download
    from datasetkit.verbs.models_list import models
    from datasetkit.verbs.models_where import where
    from datasetkit.verbs.plan_repeats import plan_repeats
    from datasetkit.verbs.publish import plan_publishing, publish
    from datasetkit.verbs.reg import reg
    from datasetkit.verbs.reg_generate import generate_reg
    from datasetkit.verbs.rename import rename
    from datasetkit.verbs.report import report
    from datasetkit.verbs.resize import resize
    from datasetkit.verbs.review import review
    from datasetkit.verbs.rules import groups, rules
    from datasetkit.verbs.run import run
    from datasetkit.verbs.scores import scores
    from datasetkit.verbs.shared.executor import connected
    from datasetkit.verbs.studio import studio
    from datasetkit.verbs.tag import tag
    from datasetkit.verbs.train import plan_training, train
    from datasetkit.verbs.undo import undo

__all__ = [
    "CaptionOptions",
    "CheckOptions",
    "ConceptOptions",
    "Config",
    "CutoutOptions",
    "ExecutorOptions",
    "ExportOptions",
    "FacesOptions",
    "FindLrOptions",
    "GridOptions",
    "ImportOptions",
    "KeepOptions",
    "LayoutOptions",
    "LoraCheckOptions",
    "LoraConvertOptions",
    "LoraExtractOptions",
    "LoraMergeOptions",
    "LoraResizeOptions",
    "PlanRepeatsOptions",
    "PublishOptions",
    "RegGenerateOptions",
    "RegOptions",
    "RenameOptions",
    "ReportOptions",
    "ResizeOptions",
    "ReviewOptions",
    "RulesOptions",
    "RunContext",
    "RunOptions",
    "TagOptions",
    "TrainOptions",
    "add_job",
    "as_sd_scripts",
    "ask_job",
    "caption",
    "check",
    "connected",
    "crop_faces",
    "cutout",
    "doctor",
    "download",
    "erase_faces",
    "export",
    "find_config",
    "find_lr",
    "forget",
    "generate_reg",
    "grid",
    "groups",
    "history",
    "hold_job",
    "import_captions",
    "import_dataset",
    "import_shards",
    "init",
    "init_example",
    "interrupted",
    "job_log",
    "jobs",
    "keep",
    "layout",
    "list_faces",
    "load_config",
    "lora_check",
    "lora_convert",
    "lora_extract",
    "lora_info",
    "lora_merge",
    "lora_resize",
    "models",
    "move_job",
    "plan_publishing",
    "plan_repeats",
    "plan_training",
    "projects_below",
    "publish",
    "recover",
    "reg",
    "remove_job",
    "rename",
    "report",
    "resize",
    "resume_job",
    "review",
    "rules",
    "run",
    "run_jobs",
    "scores",
    "stop_job",
    "studio",
    "tag",
    "train",
    "undo",
    "where",
]

# The modules of datasetkit/options and datasetkit/verbs that define each. They are loaded on first
# use: a command needs one of them, and all together take a tenth of a second.
_OPTIONS = {
    "CaptionOptions": "caption",
    "CheckOptions": "check",
    "ConceptOptions": "run",
    "CutoutOptions": "images",
    "ExecutorOptions": "executor",
    "ExportOptions": "dataset",
    "FacesOptions": "images",
    "FindLrOptions": "find_lr",
    "GridOptions": "grid",
    "ImportOptions": "dataset",
    "KeepOptions": "keep",
    "LayoutOptions": "dataset",
    "LoraCheckOptions": "lora",
    "LoraConvertOptions": "lora",
    "LoraExtractOptions": "lora",
    "LoraMergeOptions": "lora",
    "LoraResizeOptions": "lora",
    "PlanRepeatsOptions": "dataset",
    "PublishOptions": "publish",
    "RegGenerateOptions": "reg",
    "RegOptions": "reg",
    "RenameOptions": "images",
    "ReportOptions": "dataset",
    "ResizeOptions": "images",
    "ReviewOptions": "review",
    "RulesOptions": "tag",
    "RunOptions": "run",
    "TagOptions": "tag",
    "TrainOptions": "train",
}
_VERBS = {
    "add_job": "jobs_add",
    "as_sd_scripts": "check_as_sd_scripts",
    "caption": "caption",
    "check": "check",
    "crop_faces": "faces_crop",
    "connected": "shared.executor",
    "cutout": "cutout",
    "doctor": "doctor",
    "download": "models_download",
    "erase_faces": "faces_erase",
    "export": "export",
    "find_lr": "find_lr",
    "forget": "history",
    "generate_reg": "reg_generate",
    "grid": "grid",
    "groups": "rules",
    "history": "history",
    "ask_job": "jobs_ask",
    "hold_job": "jobs_hold",
    "import_captions": "import_",
    "import_dataset": "import_dataset",
    "import_shards": "import_shards",
    "init": "init",
    "init_example": "init",
    "interrupted": "history",
    "job_log": "jobs_log",
    "jobs": "jobs_list",
    "keep": "keep",
    "layout": "layout",
    "list_faces": "faces_list",
    "lora_check": "lora_check",
    "lora_convert": "lora_convert",
    "lora_extract": "lora_extract",
    "lora_info": "lora_info",
    "lora_merge": "lora_merge",
    "lora_resize": "lora_resize",
    "models": "models_list",
    "move_job": "jobs_move",
    "plan_publishing": "publish",
    "plan_repeats": "plan_repeats",
    "plan_training": "train",
    "projects_below": "history",
    "publish": "publish",
    "recover": "history",
    "reg": "reg",
    "remove_job": "jobs_remove",
    "rename": "rename",
    "report": "report",
    "resize": "resize",
    "resume_job": "jobs_resume",
    "review": "review",
    "rules": "rules",
    "run": "run",
    "run_jobs": "jobs_runner",
    "scores": "scores",
    "stop_job": "jobs_stop",
    "studio": "studio",
    "tag": "tag",
    "train": "train",
    "undo": "undo",
    "where": "models_where",
}


def __getattr__(name: str) -> Any:
    """Load a verb or an options class (PEP 562)."""
    if name in _VERBS:
        module = f"datasetkit.verbs.{_VERBS[name]}"
    elif name in _OPTIONS:
        module = f"datasetkit.options.{_OPTIONS[name]}"
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    loaded = globals()[name] = getattr(import_module(module), name)
    return loaded
