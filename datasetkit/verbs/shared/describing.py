"""Ask a captioner about images, and store its answers; stored ones are not asked for again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.caption import bare_tags, normal_form, spell
from datasetkit.captions.caption_prompts import rendered, template_of, uses
from datasetkit.captions.exclusions import Exclusions, exclusions
from datasetkit.captions.grammar import before_sentences
from datasetkit.captions.rules import load_groups
from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.records import Done, Failed, ImageRecord, Outcome, Skipped
from datasetkit.dataset import layout
from datasetkit.executors import place
from datasetkit.executors.work import BatchWork
from datasetkit.options.caption import CaptionOptions
from datasetkit.project.session import Project
from datasetkit.project.store import Store
from datasetkit.stages.caption import CaptionStage, PromptedImage
from datasetkit.verbs.shared import concept_folders
from datasetkit.verbs.shared.stored_scores import StoredScores, threshold_of
from taggers import captioners
from taggers.answers import description_of
from taggers.captioner import CaptionerOptions, Description, ResolvedCaptioner
from taggers.captioners import SERVER
from taggers.selection import Thresholds, choose

# Answers are stored in batches: an interrupted run loses little, and the disk is synced rarely.
_KEEP_EVERY = 8
# Tags in a prompt beyond these are of little use.
_MOST_TAGS = 60
_LARGEST_STORED = 100_000

WAITING = "a model has not described it yet"

# The id of an image, and the recipe of a description.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked. template: "" for an engine that takes no instructions. task: what such
    an engine is asked. exclusions: what it must not mention.
    """

    template: str
    task: str
    exclusions: Exclusions


@dataclass(slots=True)
class Descriptions:
    """Descriptions by image. asked: images that the model was asked about; waiting: those that
    a dry run would ask about; cut_off: descriptions of this run that had no end.
    """

    texts: dict[Path, str] = field(default_factory=dict)
    failed: dict[Path, Failed] = field(default_factory=dict)
    device: str = ""
    asked: int = 0
    waiting: int = 0
    cut_off: int = 0

    def of(self, record: ImageRecord) -> Outcome[str]:
        """Return the description of an image, or why it has none."""
        path = record.path
        if path in self.texts:
            return Done(record, self.texts[path])
        return self.failed.get(path) or Skipped(record, WAITING)


def question(folder: Path, options: CaptionOptions) -> Question:
    """Return what options ask. Raises ConfigError for options that conflict, and for an unknown
    engine, preset, variable or group.
    """
    captioners.require_known(options.engine)
    is_server = options.engine == SERVER
    typed = {"endpoint": options.endpoint, "model": options.model, "system": options.system}
    for name, value in typed.items():
        if value and not is_server:
            raise ConfigError(f"--{name} is for a server", hint="add --engine server")
    if options.model_dir and is_server:
        raise ConfigError("--model-dir is for Florence-2", hint="leave out one of the two")
    exclude = options.exclude or concept_folders.tag_options(folder, {}, only_read=True).exclude
    excluded = exclusions(exclude, vocabulary.load(), load_groups())
    if is_server:
        return Question(template_of(options.prompt), "", excluded)
    return Question("", options.prompt.strip(), excluded)


def resolve(options: CaptionOptions, asked: Question) -> ResolvedCaptioner:
    """Find the captioner without loading it, and check that it can be asked this."""
    resolved = captioners.resolve(
        options.engine,
        CaptionerOptions(
            model_dir=Path(options.model_dir) if options.model_dir else None,
            provider=options.provider,
            batch_size=options.batch_size or None,
            beams=options.beams,
            endpoint=options.endpoint,
            model=options.model,
            remote=options.remote,
            system=options.system,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed,
            max_side=options.max_side,
            timeout=options.timeout,
            jobs=options.jobs,
            max_tokens=options.max_tokens,
        ),
    )
    is_task = asked.task.startswith("<") and asked.task.endswith(">")
    if not asked.template and asked.task not in resolved.prompts and not is_task:
        raise ConfigError(
            f"--prompt {display(asked.task[:60])}: {options.engine} takes no instructions",
            hint=f"--prompt {' | '.join(resolved.prompts)}; --engine server follows a text",
        )
    return resolved


def prompts(
    folder: Path,
    records: Sequence[ImageRecord],
    asked: Question,
    words: Mapping[Path, Sequence[str]],
    store: Store,
    options: CaptionOptions,
) -> dict[Path, str]:
    """Return the prompt of each image. words: its trigger."""
    if not asked.template:
        return {record.path: asked.task for record in records}
    needs_tags = uses(asked.template, "tags")
    tags = _tags(folder, records, words, asked.exclusions, store) if needs_tags else {}
    return {
        record.path: rendered(
            asked.template,
            {
                "tags": ", ".join(tags.get(record.path, ())),
                "trigger": ", ".join(words[record.path]),
                "folder": _concept_of(record.path.parent),
                "name": record.path.stem,
                "exclude": ", ".join(asked.exclusions.words),
            },
        )
        for record in records
    }


def _concept_of(folder: Path) -> str:
    name = layout.parse(folder.resolve().name)
    return name.name if isinstance(name, layout.Concept) else folder.resolve().name


def _tags(
    folder: Path,
    records: Sequence[ImageRecord],
    words: Mapping[Path, Sequence[str]],
    excluded: Exclusions,
    store: Store,
) -> dict[Path, list[str]]:
    """Return the tags that are known of each image: those of its caption, else those of a tagger.
    The trigger and what is excluded are not among them.
    """
    options = concept_folders.tag_options(folder, {}, only_read=True)
    present = {record.path: _own_tags(record, words[record.path]) for record in records}
    scores = StoredScores(store, options)
    scores.read(store, [record.id for record in records if not present[record.path]])
    tags: dict[Path, list[str]] = {}
    for record in records:
        names = present[record.path]
        if not names and (stored := scores.of(record.id)) is not None:
            kept, source = stored
            thresholds = Thresholds(
                threshold_of(options, source.keys[0]), options.character_threshold
            )
            names = [spell(tag.name) for tag in choose(kept, source.labels, thresholds)]
        allowed = [name for name in names if not excluded.mentioned(name)]
        tags[record.path] = allowed[:_MOST_TAGS]
    return tags


def _own_tags(record: ImageRecord, trigger: Sequence[str]) -> list[str]:
    """Return the tags of an image's caption, without the trigger. The parts of a sentence are no
    tags: a description must not be asked for with an earlier one.
    """
    if record.caption is None:
        return []
    forms = {normal_form(word) for word in trigger}
    tags = [tag for tag in bare_tags(record.caption) if normal_form(tag) not in forms]
    return list(before_sentences(tags))


def describe(
    records: Sequence[ImageRecord],
    resolved: ResolvedCaptioner,
    asked: Mapping[Path, str],
    project: Project,
    options: CaptionOptions,
) -> Descriptions:
    """Describe images; each content is asked about once per model, prompt and settings."""
    described = Descriptions()
    keys = {r.path: (r.id, resolved.identity.recipe(asked[r.path])) for r in records}
    answers: dict[Key, str | Failed] = {}
    todo: dict[Key, ImageRecord] = {}
    for record in records:
        key = keys[record.path]
        if key not in answers and key not in todo:
            stored = _stored(project.store, key)
            if stored is None:
                todo[key] = record
            else:
                answers[key] = stored
    if project.context.dry_run:
        described.waiting = len(todo)
    elif todo:
        resolved.fetch()
        stage, context = CaptionStage(resolved, options.max_pixels), project.context
        with place.opened(
            BatchWork(stage),
            cluster=context.cluster,
            workers=options.workers,
            reporter=context.reporter,
        ) as placed:
            described.device = placed.facts.device
            outcomes = placed.run([PromptedImage(r, asked[r.path]) for r in todo.values()])
            answers |= _answers(outcomes, described, keys, project.store)
    for path, key in keys.items():
        answer = answers.get(key)
        if isinstance(answer, Failed):
            described.failed[path] = replace(answer, path=path)
        elif answer is not None:
            described.texts[path] = answer
    return described


def _answers(
    outcomes: Iterable[Outcome[Description]],
    described: Descriptions,
    keys: Mapping[Path, Key],
    store: Store,
) -> dict[Key, str | Failed]:
    """Return what the model answered, and store the descriptions in batches."""
    answers: dict[Key, str | Failed] = {}
    waiting: list[tuple[str, str, bytes]] = []
    try:
        for outcome in outcomes:
            described.asked += 1
            if isinstance(outcome, Done):
                key, text = keys[outcome.record.path], outcome.value.text
                answers[key] = text
                described.cut_off += bool(outcome.note)
                waiting.append((*key, json.dumps(text).encode()))
            elif isinstance(outcome, Failed):
                answers[keys[outcome.path]] = outcome
            if len(waiting) >= _KEEP_EVERY:
                store.put_descriptions(waiting)
                waiting.clear()
    finally:
        store.put_descriptions(waiting)
    return answers


def _stored(store: Store, key: Key) -> str | None:
    """Return a stored description, None for what dsk cannot have stored: the store may come from
    somebody else, so it is read as an answer of a model is.
    """
    row = store.measurement(*key)
    if row is None or len(row) > _LARGEST_STORED:
        return None
    try:
        text = json.loads(row)
    except (ValueError, RecursionError):
        return None
    described = description_of(text) if isinstance(text, str) else None
    return described.text if isinstance(described, Description) else None
