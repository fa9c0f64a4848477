"""What a server sends for a project in several states, so that each tab can be shown in each."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from datasetkit.options.declare import describe
from datasetkit.options.train import TrainOptions

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

STATES = ("empty", "ready", "running", "failed")
# A training that was just started: its dataset is laid out first, that waits, or it has failed.
STARTED = ("starting", "waiting", "refused")
STEPS = 240
HELLO = 'retry: 600000\nid: 1\nevent: hello\ndata: {"resumed": true}\n\n'


def job(job_id: str, state: str, title: str, verb: str = "train", **values: Any) -> dict[str, Any]:
    return {
        "id": job_id, "state": state, "verb": verb, "title": title, "command": f"dsk {verb}",
        "folder": "/kitsu", "here": True, "started": "2026-11-30T08:00:00Z", "code": None,
        "reason": "", "lane": "gpu", "place": 0, "held": False, "after": [], "run": None,
        "stop": None,
        "progress": None, **values,
    }  # fmt: skip


def run(name: str, state: str, step: int, **values: Any) -> dict[str, Any]:
    return {
        "id": name, "name": name, "folder": "/kitsu/output", "state": state,
        "started": "2026-11-30T08:00:00Z", "ended": None, "steps": STEPS, "epochs": 10,
        "step": step, "epoch": step // 24, "loss": 0.09, "seconds_per_step": 0.62,
        "seconds_left": 90.0, "memory": 9.6e9, "job": None, **values,
    }  # fmt: skip


def project(state: str) -> dict[str, Any]:
    """Return the facts of a project. state: one of STATES or STARTED."""
    has = state != "empty"
    images = 24 if has else 0
    concept = {"name": "kitsu", "folder": "imgs", "images": images, "repeats": 5}
    return {
        "name": "kitsu",
        "root": "/kitsu",
        "config": {"exists": has, "hash": "a", "problem": None},
        "images": {
            "concepts": [concept] if has else [], "total": images, "unreadable": 0, "small": 0,
            "near_duplicates": 0, "left_out": 0,
        },
        "captions": {"captioned": images, "missing": 0, "empty": 0, "without_trigger": 0},
        "check": {"ran": None, "code": 0, "is_current": False},
        "layout": {"folder": "dataset", "exists": has, "is_current": has, "images": images},
        "train": {"base": "tiny" if has else "", "problem": None},
        "runs": {
            "total": int(has), "running": int(state == "running"),
            "failed": int(state == "failed"), "lost": 0, "last": None, "current": False,
        },
        "compare": {"loras": 0, "grids": 0, "kept": 0},
        "history": {"entries": int(has), "interrupted": 0, "undo": None},
        "locked": None,
    }  # fmt: skip


def runs(state: str) -> list[dict[str, Any]]:
    return {
        "empty": [],
        "ready": [run("kitsu-2", "finished", STEPS), run("kitsu-1", "stopped", 100)],
        "running": [run("kitsu-3", "running", 124, job="j1"), run("kitsu-2", "finished", STEPS)],
        "failed": [run("kitsu-3", "failed", 21, job="j3"), run("kitsu-2", "lost", 90)],
        "starting": [run("kitsu-2", "finished", STEPS)],
        "waiting": [run("kitsu-2", "finished", STEPS)],
        "refused": [],
    }[state]


def jobs(state: str) -> list[dict[str, Any]]:
    progress = {
        "phase": "training", "done": 124, "of": STEPS, "per_second": 1.6, "seconds_left": 72.5,
        "note": "", "time": 1796029000.0,
    }  # fmt: skip
    return {
        "empty": [],
        "ready": [],
        "running": [
            job("j1", "running", "kitsu-3", run="kitsu-3", progress=progress),
            job("j2", "queued", "style-a", place=1),
        ],
        "failed": [job("j3", "failed", "kitsu-3", code=1, reason="out of memory", run="kitsu-3")],
        "starting": [
            job("j1", "running", "", "layout", progress={**progress, "phase": "comparing"}),
            job("j2", "queued", "", "reg", place=1, after=["j1"]),
            job("j3", "queued", "kitsu", place=2, after=["j1", "j2"]),
        ],
        "waiting": [
            job("j1", "queued", "", "layout", place=1),
            job("j2", "queued", "", "reg", place=2, after=["j1"]),
            job("j3", "queued", "kitsu", place=3, after=["j1", "j2"]),
        ],
        "refused": [
            job("j1", "failed", "", "layout", code=1, reason="two concepts are named kitsu"),
            job("j3", "failed", "kitsu", code=1, after=["j1"], reason="not started: dsk layout"),
        ],
    }[state]


def metrics(name: str, step: int) -> dict[str, Any]:
    steps = list(range(1, step + 1))
    checks = list(range(24, step + 1, 24))
    series = {
        "loss": {"step": steps, "mean": [0.1 + 0.1 * math.exp(-n / 60) for n in steps]},
        "lr/unet": {"step": steps, "mean": [1e-4] * step},
        "lr/text_encoder": {"step": steps, "mean": [5e-5] * step},
        "samples": {"step": steps, "mean": [2.0] * step},
        "time": {"step": steps, "mean": [1796000000.0 + n for n in steps]},
        "validation/change": {"step": checks, "mean": [-0.4 + 1 / (n + 1) for n in checks]},
        "validation/error": {"step": checks, "mean": [0.01] * len(checks)},
    }
    return {"run": name, "keys": sorted(series), "last": step, "series": series}


def plan() -> dict[str, Any]:
    """Return what a dry run of the training says, as far as the page shows it."""
    training = {
        "steps": 1560, "epochs": 10, "start": 0, "options": {"train_batch_size": 2},
        "totals": {"samples": 312, "batches": 156},
        "subsets": [{"subset": {"name": "kitsu", "repeats": 13}, "images": 24, "samples": 312}],
        "buckets": [
            {"size": [832, 1216], "images": 24, "cut_mean": 0.06, "cut_worst": 0.2, "enlarged": 2,
             "enlarged_most": 1.7}
        ],
        "captions": {"written": 24, "missing": [], "empty": ["a"], "too_long": []},
        "rates": {"unet": 1e-4}, "model": {"family": "sdxl", "prediction": "epsilon", "note": ""},
        "memory": {
            "assumed": False,
            "shares": [
                {"name": "weights", "bytes": 5.1e9, "how": "as they are loaded"},
                {"name": "activations", "bytes": 4.7e9, "how": "estimated"},
            ],
        },
        "memory_bytes": 9.8e9,
        "fits": [{"card": 8, "options": {"base_precision": "int8"}}],
        "disk": {"loras": 10, "lora": 114e6, "states": 2, "state": 3e8, "free": 41e9},
        "to_download": [],
    }  # fmt: skip
    output = {"result": {"plan": training}, "warnings": ["2 images are small"], "failed": []}
    return {"command": "dsk train --dry-run", "code": 0, "output": output, "error": "", "hint": ""}


def training(state: str) -> dict[str, Any]:
    """Return what runs before a training; in `starting` the dataset is not laid out yet."""
    before = ["layout", "reg"] if state == "starting" else []
    return {
        "before": before, "exists": not before, "problem": None,
        "command": " && ".join(f"dsk {verb}" for verb in (*before, "train")),
        "steps": 1920 if before else None, "epochs": 10 if before else None,
    }  # fmt: skip


def config() -> dict[str, Any]:
    return {
        "path": "dsk.toml", "exists": True, "hash": "a", "text": "", "concepts": [],
        "problem": None,
        "tables": {
            "train": {
                "pretrained_model_name_or_path": "sdxl-base.safetensors",
                "preset": "sdxl-character@1", "network_dim": 24,
            }
        },
        "layers": [
            {"name": "sdxl", "title": "SDXL", "tables": {"train": {"resolution": 1024}}},
            {"name": "character", "title": "Character", "tables": {"train": {"network_dim": 16}}},
        ],
    }  # fmt: skip


def presets() -> dict[str, Any]:
    def named(**titles: str) -> list[dict[str, str]]:
        return [{"name": name, "title": title} for name, title in titles.items()]

    return {
        "version": 1,
        "families": named(sd1="Stable Diffusion 1", sdxl="SDXL"),
        "goals": named(
            character="Character", style="Style", garment="Garment", face="Face", object="Object"
        ),
        "memory": named(roomy="Roomy", tight="Tight", tightest="Tightest"),
        "own": [],
    }


def answers(state: str) -> dict[str, Any]:
    """Return the JSON of each URL path below api/."""
    known: dict[str, Any] = {
        "project": project(state),
        "jobs": {"jobs": jobs(state)},
        "runs": {"runs": runs(state)},
        "config": config(),
        "presets": presets(),
        "plan": plan(),
        "training": training(state),
        "schema": {
            "version": "1", "tables": {"train": describe(TrainOptions)}, "concept": [],
            "slots": {},
        },
        "system": {
            "cards": [
                {"name": "a card", "memory": 12e9, "used": 0, "temperature": 41, "bf16": True}
            ],
            "memory": {"total": 32e9, "free": 16e9}, "disk": {"free": 41e9},
            "torch": {"installed": True, "cuda": True}, "problem": "",
        },
    }  # fmt: skip
    options = asdict(TrainOptions())
    for view in runs(state):
        path = f"runs/{view['id']}"
        known[f"{path}/metrics"] = metrics(view["id"], view["step"])
        known[path] = {
            "run": view, "options": options, "plan": {}, "versions": {}, "differs": {},
            "files": [{"name": "s", "kind": "state", "step": 20, "epoch": 1, "size": 1}],
        }  # fmt: skip
    for each in jobs(state):
        known[f"jobs/{each['id']}"] = {"job": each, "log": "epoch 1: 24 steps\nout of memory\n"}
    return known


def serve(page: Page, state: str) -> None:
    """Let the requests of a page be answered for a project in a state; all others go on."""
    known = {path: json.dumps(value, default=list) for path, value in answers(state).items()}

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path.removeprefix("/api/")
        if path == "events":
            route.fulfill(body=HELLO, content_type="text/event-stream")
        elif path in known:
            route.fulfill(body=known[path], content_type="application/json")
        else:
            route.fallback()

    page.unroute_all()
    page.route("**/api/**", answer)
