"""Run the checks, and summarize the findings as lines, a table and a contact sheet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit.checks.base import GROUPS, Check, CheckFinding, CheckImage, CheckInput, Group
from datasetkit.core.files import display, is_readable_name
from datasetkit.dataset.layout import laid_out_root, outside_of
from datasetkit.dataset.reports import csv_text
from datasetkit.images import contact_sheet
from datasetkit.options.check import CheckOptions

# How many examples of a check the screen shows.
_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """The findings of one check. files: images or folders; fixed: by --fix; examples: the worst.

    folder: of the first example, for the next step. out: where the next step writes images that it
    makes of a laid-out folder, None for the default.
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
    out: Path | None = None


def find_all(data: CheckInput, checks: Sequence[Check]) -> tuple[CheckFinding, ...]:
    """Run the checks; return the findings check by check, the worst first."""
    concepts = {item.path: item.folder.name for item in data.items} | {
        p.folder: p.name for p in data.folders
    }
    findings: list[CheckFinding] = []
    for check in checks:
        findings += (
            CheckFinding(
                check.name,
                check.group,
                f.path,
                concepts.get(f.path, ""),
                f.reason,
                f.weight,
                f.subject,
                step=f.step,
            )
            for f in sorted(check.find(data), key=lambda f: -f.weight)
        )
    return tuple(findings)


def summarize(
    findings: Sequence[CheckFinding], checks: Sequence[Check]
) -> tuple[CheckSummary, ...]:
    """Summarize the checks that have findings, group by group: counts, the worst examples, the next
    step.
    """
    by_check: defaultdict[str, list[CheckFinding]] = defaultdict(list)
    for finding in findings:
        by_check[finding.check].append(finding)
    ordered = sorted(checks, key=lambda check: GROUPS.index(check.group))
    return tuple(_summary(check, by_check[check.name]) for check in ordered if by_check[check.name])


def _summary(check: Check, findings: Sequence[CheckFinding]) -> CheckSummary:
    first = findings[0].path
    folder = first if first.is_dir() else first.parent
    root = laid_out_root(folder) if "{out}" in check.step else None
    return CheckSummary(
        check=check.name,
        group=check.group,
        title=check.title,
        findings=len(findings),
        files=len({f.path for f in findings}),
        fixed=sum(f.fixed for f in findings),
        fixable=sum(not f.step for f in findings) if check.fix else 0,
        examples=_examples(findings),
        step=findings[0].step or check.step,
        folder=folder,
        out=outside_of(folder, root, check.name) if root is not None else None,
    )


def _examples(findings: Sequence[CheckFinding]) -> tuple[str, ...]:
    if findings[0].subject:
        counts = Counter(f.subject for f in findings)
        reasons = {f.subject: f.reason for f in reversed(findings)}
        return tuple(
            reasons[subject] + (f" ({n} captions)" if n > 1 else "")
            for subject, n in counts.most_common(_EXAMPLES)
        )
    return tuple(f"{display(f.path.name)}: {f.reason}" for f in findings[:_EXAMPLES])


def table(folder: Path, findings: Sequence[CheckFinding]) -> str:
    """Return the findings as CSV, one row each, with paths relative to the folder."""
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
    data: CheckInput, findings: Sequence[CheckFinding]
) -> tuple[contact_sheet.SheetCell, ...]:
    """Return the images with findings, their reasons and boxes, in order.

    Left out: findings of folders, and tags in one caption only, which are too many.
    """
    reasons: defaultdict[Path, dict[str, str]] = defaultdict(dict)
    for finding in findings:
        if finding.check != "singleton" and finding.group != "folder":
            before = reasons[finding.path].get(finding.check)
            reasons[finding.path][finding.check] = (
                f"{before}; {finding.reason}" if before else finding.reason
            )
    boxes = {
        item.path: tuple(_boxes(item, data.options, reasons[item.path]))
        for item in data.items
        if item.path in reasons
    }
    paths = [path for path in (*boxes, *(failed.path for failed in data.failed)) if path in reasons]
    return tuple(
        contact_sheet.SheetCell(
            path, below(path, data.folder), tuple(reasons[path].values()), boxes.get(path, ())
        )
        for path in paths
    )


def _boxes(
    item: CheckImage, options: CheckOptions, checks: Collection[str]
) -> Iterator[contact_sheet.SheetBox]:
    """Yield the text and the faces of an image, if they are findings."""
    for kind, regions, least in (
        ("text", item.text, options.text),
        ("faces", item.faces, options.faces),
    ):
        if kind in checks:
            yield from (
                contact_sheet.SheetBox(kind, r.left, r.top, r.right, r.bottom)
                for r in regions or ()
                if r.score >= least
            )


def below(path: Path, folder: Path) -> str:
    """Return a path relative to a folder, for tables and contact sheets; unprintable characters are
    escaped.
    """
    whole, root = path.absolute(), folder.absolute()
    name = (whole.relative_to(root) if whole.is_relative_to(root) else path).as_posix()
    return name if is_readable_name(name) else display(name)
