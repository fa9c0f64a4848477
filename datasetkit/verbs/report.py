"""`dsk report`: the tags of a dataset, per concept and in total, as CSV tables and a chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import bare_tags, normal_form
from datasetkit.captions.translations import OWN_NAME
from datasetkit.core.errors import DatasetError, InputError
from datasetkit.core.files import display, find_root, read_existing, refuse_link
from datasetkit.core.packed import PackedList
from datasetkit.core.progress import Reporter
from datasetkit.core.records import Failed, LeftOut
from datasetkit.dataset import reports, sentence_reports
from datasetkit.dataset.naming import require_names
from datasetkit.dataset.reports import CaptionedImage
from datasetkit.images.listing import same_names
from datasetkit.images.scan import each_image, require_images, scan
from datasetkit.options.dataset import ReportOptions
from datasetkit.options.review import ReviewOptions
from datasetkit.options.toml import find
from datasetkit.project.plans import Plan, WriteBytes, WriteText
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet, find_sets, history_folder
from datasetkit.verbs.shared.concept_images import train_options
from datasetkit.verbs.shared.kept_results import (
    NOT_KEPT,
    RunInputs,
    dataset_inputs,
    inputs_of,
    state_of_base,
)
from datasetkit.verbs.shared.recovery import recover_dataset
from datasetkit.verbs.shared.tag_meanings import TagMeanings
from datasetkit.verbs.shared.triggers import triggers_of_tags, words_of
from datasetkit.verbs.shared.where_filter import ImageInConcept, passing
from taggers.base import Labels, unpack

if TYPE_CHECKING:
    from pandas import DataFrame

_TABLES: Final = ("tags.csv", "pairs.csv", "sentences.csv", "phrases.csv")
_FILTER_HINT = "test the filter in dsk review, or leave out --where to count all images"


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The files of a report, and the first rows of the frequency table.

    changed: the files whose content is new. left_out: images that do not pass the filter.
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
    left_out: int = 0
    unused_files: tuple[LeftOut, ...] = ()


def report(
    folder: Path, options: ReportOptions, context: RunContext = DEFAULT_CONTEXT
) -> ReportResult:
    """Write `tags.csv`, `pairs.csv` and `tags.png` about the captions of a folder or dataset, and
    `sentences.csv` and `phrases.csv` if captions have sentences.

    They go to options.out, by default `report/` in the project. Raises DatasetError without
    captions.
    """
    recover_dataset(folder, context, recursive=options.recursive)
    out = Path(options.out) if options.out else find_root(folder) / "report"
    if not options.out:  # a link may have come with the folder
        refuse_link(out)
    require_names(out)
    names = [*_TABLES, "tags.png"][: len(_TABLES) + options.plot]
    inputs = _inputs(folder, out, names, options, context.reporter)
    if (kept := inputs.kept(ReportResult)) is not None:
        return kept
    over = {out / name: read_existing(out / name) for name in names}
    sets = find_sets(folder, recursive=options.recursive)
    root = find_root(folder)
    with Store.open_copy(root) as store:
        data = _captioned(folder, sets.train, store, options.where, context.reporter)
    items = data.items
    if not items:
        if data.left_out:
            raise DatasetError(
                f"no image of {display(folder)} that passes the filter has a caption",
                hint=_FILTER_HINT,
            )
        raise DatasetError(f"{display(folder)} has no captions", hint="run dsk tag first")
    triggers = options.trigger or data.triggers
    frequency = reports.frequency(items, triggers, vocabulary.load())
    if options.translate:
        frequency.insert(
            2, "translation", list(map(_meanings(folder, context).of, frequency["tag"]))
        )
    tables = {
        out / "tags.csv": reports.csv_text(frequency, excel=options.excel),
        out / "pairs.csv": reports.csv_text(reports.cooccurrence(items), excel=options.excel),
    }
    for name, table in _sentence_tables(folder, items).items() if data.has_sentences else ():
        tables[out / name] = reports.csv_text(table, excel=options.excel)
    image = out / "tags.png"
    # Captions that are sentences give no bars.
    is_drawn = options.plot and len(frequency) > 0
    chart = (WriteBytes(image, reports.plot(frequency), over[image]),) if is_drawn else ()
    plan = Plan((*(WriteText(path, text, over[path]) for path, text in tables.items()), *chart))
    with open_project(history_folder(folder, out), context, create_folder=True) as project:
        changed = project.changed(plan)
        entry = project.apply(plan, "report", display(folder.resolve().name))
        total = frequency[frequency["concept"] == reports.TOTAL]
        top = tuple(
            {str(k): _plain(v) for k, v in row.items()} for row in total.head(15).to_dict("records")
        )
        files = (*tables, *(op.path for op in chart))
        result = ReportResult(
            out,
            files,
            changed,
            len(items),
            len(total),
            top,
            data.without_caption,
            data.failed,
            entry,
            data.left_out,
            (*sets.unused_files, *data.unused_files),
        )
        if not context.dry_run:
            inputs.keep(project.store, replace(result, changed=(), entry=None))
    return result


def _sentence_tables(folder: Path, items: Sequence[CaptionedImage]) -> dict[str, DataFrame]:
    """Return the tables about sentences, by file. Their tokens are counted as the base model of
    `[train]` reads them.
    """
    from trainer.plan import token_limit  # here: captions of tags need no trainer

    limit = token_limit.of_base(train_options(find(folder), None))
    return {
        "sentences.csv": sentence_reports.lengths(items, limit),
        "phrases.csv": sentence_reports.phrases(items),
    }


def _inputs(
    folder: Path, out: Path, names: Sequence[str], options: ReportOptions, reporter: Reporter
) -> RunInputs:
    if options.where or options.translate:  # they read more than captions
        return NOT_KEPT
    base = state_of_base(train_options(find(folder), None))
    if base is None:
        return NOT_KEPT
    roots, folders = dataset_inputs(folder, recursive=options.recursive)
    files = [out / name for name in names]
    root = find_root(history_folder(folder, out))
    return inputs_of(
        "report", root, folders, (options, roots, base), files=files, without=out, reporter=reporter
    )


def _meanings(folder: Path, context: RunContext) -> TagMeanings:
    """Return what tags mean. Raises InputError where no table says it."""
    root = find_root(folder)
    meanings = TagMeanings(root, find(folder).build(ReviewOptions, "review", only_read=True))
    if not meanings:
        raise InputError(
            meanings.problem or f"{display(root)} has no table of what tags mean",
            hint=f"put one there as {OWN_NAME}, with tag,meaning on each line, or name it in "
            "dsk.toml: [review] translations",
        )
    if meanings.problem:
        context.reporter.warn(meanings.problem)
    return meanings


def _plain(cell: object) -> object:
    """Return a cell for JSON: None for the NaN of pandas."""
    return None if cell != cell else cell


@dataclass(frozen=True, slots=True)
class _ReportInput:
    """The captions of a report, their triggers, how many images it leaves out, and the files that
    are not used. has_sentences: of at least one caption.
    """

    items: Sequence[CaptionedImage]
    failed: tuple[Failed, ...]
    without_caption: int
    left_out: int
    triggers: tuple[str, ...]
    unused_files: tuple[LeftOut, ...]
    has_sentences: bool


def _captioned(
    folder: Path, sets: Sequence[ConceptSet], store: Store, where: str, reporter: Reporter
) -> _ReportInput:
    """Read the captions that pass a filter, with scores if the image was tagged in this project."""
    models = [(key, Labels.from_pairs(pairs)) for key, pairs in store.models()]
    items: PackedList[CaptionedImage] = PackedList()
    failed: list[Failed] = []
    triggers: dict[str, None] = {}
    unused_files: list[LeftOut] = []
    images = selected = 0
    has_sentences = False
    passes = _filter(sets, folder, store, where, reporter, with_ids=bool(models))
    for concept in sets:
        listing = require_images(concept.folder, recursive=concept.recursive)
        failed.extend(listing.failed)
        unused_files.extend(listing.left_out)
        # Of each image no more is kept than its tags, packed: there may be a million.
        tags: PackedList[tuple[Path, tuple[str, ...]]] = PackedList()
        alike = same_names(listing.images, any_disk=True)
        for record in each_image(
            listing, store, alike, with_ids=bool(models), reporter=reporter
        ):  # fmt: skip
            if isinstance(record, Failed):
                failed.append(record)
                continue
            images += 1
            caption = record.caption
            tags.append((record.path, () if caption is None else caption.tags))
            if not passes(record.path):
                continue
            selected += 1
            if caption is not None and not caption.is_empty:
                has_sentences = has_sentences or bool(caption.sentences)
                items.append(
                    CaptionedImage(
                        concept.name,
                        concept.repeats or 1,
                        record.path,
                        bare_tags(caption),
                        _scores(record.id, bare_tags(caption), models, store),
                        caption.sentences,
                    )
                )
        triggers |= dict.fromkeys(words_of(triggers_of_tags(tags, concept.trigger)))
    return _ReportInput(
        items,
        tuple(failed),
        selected - len(items),
        images - selected,
        tuple(triggers),
        tuple(unused_files),
        has_sentences,
    )


def _filter(
    sets: Sequence[ConceptSet],
    folder: Path,
    store: Store,
    where: str,
    reporter: Reporter,
    *,
    with_ids: bool,
) -> Callable[[Path], bool]:
    """Return what tells whether an image passes a filter."""
    if not where:
        return lambda _: True
    images = [
        ImageInConcept(record, concept.name, concept.repeats or 1)
        for concept in sets
        for record in scan(
            concept.folder,
            store,
            recursive=concept.recursive,
            with_ids=with_ids,
            reporter=reporter,
        ).records
    ]
    return passing(images, where, folder, store, reporter=reporter).__contains__


def _scores(
    image: str, tags: Sequence[str], models: Sequence[tuple[str, Labels]], store: Store
) -> dict[str, float] | None:
    """Return the scores of these tags of the tagger that scored the image; of several the last one
    used.
    """
    forms = set(map(normal_form, tags)) if models else set[str]()
    for key, labels in models:
        row = store.scores(image, key)
        if row is not None:
            values = unpack(row, len(labels))
            scored = ((labels.items[i].name, values[i]) for i in values.nonzero()[0].tolist())
            return {name: float(value) for name, value in scored if normal_form(name) in forms}
    return None
