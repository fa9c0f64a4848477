"""Telling: the checks run one by one, and what they found as lines for people, a table and a
contact sheet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.checks.base import GROUPS, Check, CheckFinding, CheckImage, CheckInput, Group
from datasetkit.core.files import display, is_readable_name
from datasetkit.dataset.reports import csv_text
from datasetkit.images import contact_sheet
from datasetkit.options.check import CheckOptions

# How many examples of a finding stand on the screen.
_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """One check that found something. files: images or folders; examples: the worst; fixed:
    mended by --fix.

    folder: where the first example lies, for the next step.
    """

    check: str
    group: Group
    title: str
    findings: int
    files: int
    fixed: int
    fixable: int
    examples: tuple[str, ...]
    step: str
    folder: Path


def find_all(of: CheckInput, checks: Sequence[Check]) -> tuple[CheckFinding, ...]:
    """Run the checks: all findings, those of a check together, the worst first."""
    concepts = {item.path: item.place.name for item in of.items} | {
        p.folder: p.name for p in of.places
    }
    findings: list[CheckFinding] = []
    for one in checks:
        found = sorted(one.find(of), key=lambda f: -f.weight)
        findings += (
            CheckFinding(
                one.name, one.group, f.path, concepts.get(f.path, ""), f.reason, f.weight, f.subject
            )
            for f in found
        )
    return tuple(findings)


def summarize(
    findings: Sequence[CheckFinding], checks: Sequence[Check]
) -> tuple[CheckSummary, ...]:
    """Say for each check that found something how much, the worst examples and the next step, group
    by group.
    """
    by_check: defaultdict[str, list[CheckFinding]] = defaultdict(list)
    for finding in findings:
        by_check[finding.check].append(finding)
    ordered = sorted(checks, key=lambda one: GROUPS.index(one.group))
    return tuple(_summary(one, by_check[one.name]) for one in ordered if by_check[one.name])


def _summary(one: Check, found: Sequence[CheckFinding]) -> CheckSummary:
    first = found[0].path
    return CheckSummary(
        one.name, one.group, one.title, len(found), len({f.path for f in found}),
        sum(f.fixed for f in found), len(found) if one.fix else 0, _examples(found), one.step,
        first if first.is_dir() else first.parent,
    )  # fmt: skip


def _examples(found: Sequence[CheckFinding]) -> tuple[str, ...]:
    if found[0].subject:
        counts = Counter(f.subject for f in found)
        reasons = {f.subject: f.reason for f in reversed(found)}
        return tuple(
            reasons[subject] + (f" ({n} captions)" if n > 1 else "")
            for subject, n in counts.most_common(_EXAMPLES)
        )
    return tuple(f"{display(f.path.name)}: {f.reason}" for f in found[:_EXAMPLES])


def table(folder: Path, findings: Sequence[CheckFinding]) -> str:
    """Return the findings as CSV, one row each; paths as seen from the folder."""
    from pandas import DataFrame

    rows = [
        (
            f.group,
            f.check,
            below(f.path, folder),
            f.concept,
            f.subject,
            f.reason,
            "yes" if f.fixed else "",
        )
        for f in findings
    ]
    return csv_text(
        DataFrame(rows, columns=["group", "check", "path", "concept", "tag", "reason", "fixed"])
    )


def sheet_entries(
    of: CheckInput, findings: Sequence[CheckFinding]
) -> tuple[contact_sheet.SheetCell, ...]:
    """Return the flagged images with their reasons and boxes, in their order; a tag of one
    caption is no reason.
    """
    reasons: defaultdict[Path, dict[str, str]] = defaultdict(dict)
    for finding in findings:
        if finding.check != "singleton" and finding.group != "folder":
            before = reasons[finding.path].get(finding.check)
            reasons[finding.path][finding.check] = (
                f"{before}; {finding.reason}" if before else finding.reason
            )
    boxes = {
        item.path: tuple(_boxes(item, of.options, reasons[item.path]))
        for item in of.items
        if item.path in reasons
    }
    paths = [path for path in (*boxes, *(failed.path for failed in of.failed)) if path in reasons]
    return tuple(
        contact_sheet.SheetCell(
            path, below(path, of.folder), tuple(reasons[path].values()), boxes.get(path, ())
        )
        for path in paths
    )


def _boxes(
    item: CheckImage, options: CheckOptions, checks: Collection[str]
) -> Iterator[contact_sheet.SheetBox]:
    """Yield what was found within an image, where it was a finding."""
    for kind, spots, least in (
        ("text", item.text, options.text),
        ("faces", item.faces, options.faces),
    ):
        if kind in checks:
            yield from (
                contact_sheet.SheetBox(kind, s.left, s.top, s.right, s.bottom)
                for s in spots or ()
                if s.score >= least
            )


def below(path: Path, folder: Path) -> str:
    """Name a path as seen from a folder, for tables and sheets; what no file of text can hold is
    spelled out.
    """
    whole, root = path.absolute(), folder.absolute()
    name = (whole.relative_to(root) if whole.is_relative_to(root) else path).as_posix()
    return name if is_readable_name(name) else display(name)
