"""`dsk report`: which tags a data set has, per concept and in total, as CSV tables and a chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasetkit import reports
from datasetkit.core import vocabulary
from datasetkit.core.config import ReportOptions
from datasetkit.core.errors import DatasetError
from datasetkit.core.files import display, find_root
from datasetkit.core.plans import Plan, WriteBytes, WriteText
from datasetkit.core.records import Failed
from datasetkit.core.store import Store
from datasetkit.reports import Captioned
from datasetkit.scan import scan
from datasetkit.verbs.project import JUST_DO_IT, How, open_project
from datasetkit.verbs.sets import ConceptSet, find_sets, home
from taggers.base import Labels, unpack


@dataclass(frozen=True, slots=True)
class Reported:
    """Where the tables are, and the head of the frequency table for the screen.

    changed: those of the files that did not hold the same before.
    """

    folder: Path
    files: tuple[Path, ...]
    changed: tuple[Path, ...]
    images: int
    tags: int
    top: tuple[dict[str, object], ...]
    without_caption: int
    failed: tuple[Failed, ...]
    entry: int | None


def report(folder: Path, options: ReportOptions, how: How = JUST_DO_IT) -> Reported:
    """Write `tags.csv` and `pairs.csv` (and `tags.png`) on the captions of a folder or a laid-out data set.

    The tables go to options.out, by default `report/` in the project. Raises DatasetError without captions.
    """
    sets = find_sets(folder, recursive=options.recursive)
    root = find_root(folder)
    with Store.open_copy(root) as store:
        items, failed, missing = _captioned(sets.train, store)
    if not items:
        raise DatasetError(f"{display(folder)} has no captions", hint="dsk tag writes them")
    triggers = options.trigger or sets.triggers
    frequency = reports.frequency(items, triggers, vocabulary.load())
    out = Path(options.out) if options.out else root / "report"
    tables = {
        out / "tags.csv": reports.csv_text(frequency, excel=options.excel),
        out / "pairs.csv": reports.csv_text(reports.cooccurrence(items), excel=options.excel),
    }
    chart = (WriteBytes(out / "tags.png", reports.plot(frequency)),) if options.plot else ()
    plan = Plan((*(WriteText(path, text) for path, text in tables.items()), *chart))
    with open_project(home(folder, out), how) as project:
        changed = project.changed(plan)
        entry = project.apply(plan, "report", display(folder.name))
    total = frequency[frequency["concept"] == reports.TOTAL]
    top = tuple({str(k): _plain(v) for k, v in row.items()} for row in total.head(15).to_dict("records"))
    files = (*tables, *(op.path for op in chart))
    return Reported(out, files, changed, len(items), len(total), top, missing, tuple(failed), entry)


def _plain(cell: object) -> object:
    """Return a cell as JSON has it: pandas writes what is unknown as NaN."""
    return None if cell != cell else cell


def _captioned(sets: Sequence[ConceptSet], store: Store) -> tuple[list[Captioned], list[Failed], int]:
    """Read every caption; scores come from the store where the picture was tagged in this project."""
    items: list[Captioned] = []
    failed: list[Failed] = []
    missing = 0
    models = [(key, Labels.from_pairs(pairs)) for key, pairs in store.models()]
    for concept in sets:
        found = scan(concept.folder, store, recursive=concept.recursive, with_ids=bool(models))
        failed.extend(found.failed)
        for record in found.records:
            if record.caption is None or not record.caption.tags:
                missing += 1
                continue
            scores = _scores(record.id, models, store)
            items.append(Captioned(concept.name, concept.repeats or 1, record.path, record.caption.tags, scores))
    return items, failed, missing


def _scores(image: str, models: Sequence[tuple[str, Labels]], store: Store) -> dict[str, float] | None:
    """Return the scores of the tagger that saw the picture; of several the one used last."""
    for key, labels in models:
        row = store.scores(image, key)
        if row is not None:
            values = unpack(row, len(labels))
            return {labels.items[i].name: float(values[i]) for i in values.nonzero()[0].tolist()}
    return None
