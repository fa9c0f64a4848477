"""The tab Check: the findings of `dsk check` as cards, and fixing what needs no decision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from datasetkit.checks import registry
from datasetkit.checks.base import CheckFinding
from datasetkit.core.errors import DskError, InputError
from datasetkit.core.files import CONFIG_NAME, display
from datasetkit.options.check import CheckOptions
from datasetkit.options.toml import find
from datasetkit.project import jobs
from datasetkit.verbs.check import CheckResult, check
from datasetkit.verbs.studio import concepts
from datasetkit.verbs.studio.jobs import is_here
from datasetkit.verbs.studio.session import StudioSession

Severity = Literal["error", "warning", "note"]
# What keeps images out of the training, or trains something else than meant.
_ERRORS: Final = frozenset({
    "unreadable", "suffix", "format", "caption-unreadable", "caption-name", "folder-name",
    "folder-empty", "unseen", "same-stem", "turned",
})  # fmt: skip
# What is only worth a look.
_NOTES: Final = frozenset({
    "unsupported", "singleton", "in-all", "unknown", "redundant", "origin", "caption-kind",
    "concept-is-tag", "reg-surplus", "underscores",
})  # fmt: skip
_SHOWN: Final = 12
_MOST_CHANGES: Final = 200


def severity(name: str) -> Severity:
    """Return how bad the findings of a check are."""
    return "error" if name in _ERRORS else "note" if name in _NOTES else "warning"


def report(studio: StudioSession) -> dict[str, Any]:
    """Return the findings of the checks, from what `dsk check` measured; none before it ran."""
    ran = _last_run(studio)
    base: dict[str, Any] = {"ran": ran, "command": "dsk check ."}
    if ran is None:
        count = sum(concepts.image_count(studio, c) for c in concepts.find_concepts(studio))
        return {**base, "current": False, "images": count, "quiet": 0, "cards": []}
    result = _checked(studio, CheckOptions(), fix=False)
    by_check: dict[str, list[CheckFinding]] = {}
    for finding in result.findings:
        by_check.setdefault(finding.check, []).append(finding)
    return {
        **base,
        "current": ran >= _changed(studio),
        "images": result.images,
        "quiet": result.quiet,
        "cards": [
            {
                "check": summary.check,
                "group": summary.group,
                "severity": severity(summary.check),
                "title": summary.title,
                "why": why(summary.check),
                "findings": summary.findings,
                "files": summary.files,
                "fixable": summary.fixable,
                "step": _step(studio, summary.step, summary.folder),
                "images": _rows(studio, by_check[summary.check][:_SHOWN]),
            }
            for summary in result.summaries
        ],
    }


def findings(studio: StudioSession, name: str) -> dict[str, Any]:
    """Return all findings of one check. Raises ConfigError for an unknown one."""
    result = _checked(studio, CheckOptions(only=(name,)), fix=False)
    return {"findings": _rows(studio, result.findings)}


def _checked(
    studio: StudioSession, options: CheckOptions, *, fix: bool, dry_run: bool = True
) -> CheckResult:
    context = replace(studio.context, dry_run=dry_run)
    given = {"only": options.only} if options.only else {}
    built = find(studio.folder).build(CheckOptions, "check", given)
    # A report of the page writes no files of its own.
    built = replace(built, csv="", sheet="")
    return check(studio.folder, built, fix=fix, context=context)


def _last_run(studio: StudioSession) -> float | None:
    """Return when dsk check ended last in this project, in seconds since 1970."""
    times = []
    with suppress(DskError, OSError):
        for job in jobs.list_jobs():
            if job.verb == "check" and job.state == "done" and is_here(studio, job):
                folder = jobs.folder_of(job).path
                if folder is not None:
                    times.append((folder / jobs.END).stat().st_mtime)
    return max(times, default=None)


def _changed(studio: StudioSession) -> float:
    """Return when an image, a caption or dsk.toml changed last."""
    folders = {c.folder for c in concepts.find_concepts(studio)}
    folders |= {c.work for c in concepts.find_concepts(studio)}
    newest = 0.0
    for folder in folders:
        with suppress(OSError):
            for path in (folder, *folder.iterdir()):
                newest = max(newest, path.lstat().st_mtime)
    with suppress(OSError):
        newest = max(newest, (studio.root / CONFIG_NAME).lstat().st_mtime)
    return newest


def why(name: str) -> str:
    """Return what a check measures, and from where on it reports it."""
    for each in registry.selected(CheckOptions(only=(name,))):
        return f"{each.measure}: {each.threshold}"
    return ""


def _step(studio: StudioSession, step: str, folder: Path) -> str:
    """Return the next step, with the folder as it is typed in the project."""
    for key, value in {
        "folder": studio.shown(folder),
        "dataset": ".",
        "out": "",
        "trigger": "NAME",
    }.items():
        step = step.replace(f"{{{key}}}", value)
    return step.replace("{contact_sheet}", "findings.png")


def _rows(studio: StudioSession, results: Sequence[CheckFinding]) -> list[dict[str, Any]]:
    paths = [finding.path for finding in results]
    images = {
        image.path: image
        for image in studio.images.read(paths, max_pixels=studio.options.max_pixels)
        if not image.problem
    }
    return [
        {
            "id": images[f.path].id if f.path in images else None,
            "v": images[f.path].v if f.path in images else "",
            "name": display(f.path.name),
            "reason": f.reason,
        }
        for f in results
    ]


def fix(studio: StudioSession, checks: Sequence[str], *, dry_run: bool) -> dict[str, Any]:
    """Fix the findings of checks that need no decision, or say what would change.

    Raises InputError for an unknown check, Locked, PlanConflict.
    """
    names = {each.name for each in registry.selected(CheckOptions())}
    if not checks or not names.issuperset(checks):
        raise InputError("the request has no valid `checks`", hint='e.g. "checks": ["tag-twice"]')
    options = CheckOptions(only=tuple(dict.fromkeys(checks)))
    result = _checked(studio, options, fix=True, dry_run=dry_run)

    def name(path: Path) -> str:
        return display(studio.shown(path))

    changes = [op.describe(name) for op in result.plan.ops]
    return {
        "changes": changes[:_MOST_CHANGES],
        "count": sum(finding.fixed for finding in result.findings),
        "entry": result.entry,
        "command": f"dsk check . --only {','.join(options.only)} --fix",
    }
