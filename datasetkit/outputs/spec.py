"""What a verb wants made of the images of a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasetkit.core.errors import PlanConflict
from datasetkit.core.files import MASKS, caption_path, display
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.images.pixels import DEFAULT_MAX_PIXELS
from datasetkit.project.store import Output
from datasetkit.stages.base import Files

Targets = Mapping[Path, Files]
Reword = Callable[[Caption], Caption]
# A mask that is made with an output is stored under this word and the name of the verb.
MASK_RECIPE = "beside"


def unchanged(caption: Caption) -> Caption:
    """Return a caption as it is."""
    return caption


def is_mask(path: Path) -> bool:
    """Tell whether an output is a mask, by its folder."""
    return path.parent.name == MASKS


@dataclass(frozen=True, slots=True)
class CaptionRewrite:
    """A caption that follows its image. image: the new one; origin: the one that it is made of;
    change: what becomes of the tags.
    """

    image: Path
    origin: Path
    change: Reword = unchanged

    @property
    def caption(self) -> Path:
        return caption_path(self.image)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The outputs of one verb in one folder.

    out: the output folder. recipe: begins with the verb and a hyphen, and names everything that
    changes the bytes: the options, and the version of the code. targets: the files of each image;
    an image without any is left out. waiting: how a dry run describes an image that would be made.

    rewords: by image, how its caption changes; the captions of the others go along as they are, and
    so do all masks that are not made. fallback: the recipe under which an image of at most
    max_pixels is copied as it is if the stage fails for it; "": nothing is written then. staged:
    the outputs are swapped in later, so they neither follow their sources nor take captions and
    masks along. captions_note: goes into the title of the captions' journal entry.
    """

    out: Path
    recipe: str
    targets: Targets
    waiting: str
    rewords: Mapping[Path, Reword] = field(default_factory=dict)
    fallback: str = ""
    max_pixels: int = DEFAULT_MAX_PIXELS
    staged: bool = False
    captions_note: str = ""

    def __post_init__(self) -> None:
        """Raise PlanConflict if two images would be written to one file, or one over an image."""
        owners = {source: source for source in self.targets}
        for source, files in self.targets.items():
            for file in files:
                if (owner := owners.setdefault(file, source)) != source or file == source:
                    raise PlanConflict(
                        f"{display(source)} would be written to {display(file)}, which belongs to "
                        f"{display(owner)}",
                        hint="name another output folder",
                    )

    @property
    def verb(self) -> str:
        return self.recipe.partition("-")[0]

    def wanted(self, records: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Return the images that have outputs."""
        return [record for record in records if self.targets.get(record.path)]

    def images(self, record: ImageRecord) -> list[Path]:
        """Return the outputs of an image without the masks."""
        return [path for path in self.targets.get(record.path, ()) if not is_mask(path)]

    def outputs(self, record: ImageRecord) -> tuple[Output, ...]:
        """Return the files of one image as the store lists them: images under the recipe, masks
        under the verb.
        """
        return tuple(
            Output(path, record.id, f"{MASK_RECIPE} {self.verb}", record.path)
            if is_mask(path)
            else Output(path, record.id if n == 1 else f"{record.id}/{n}", self.recipe, record.path)
            for n, path in enumerate(self.targets[record.path], 1)
        )

    def rewrites(self, records: Sequence[ImageRecord]) -> Iterator[tuple[Path, CaptionRewrite]]:
        """Yield (image, rewrite) of the captions that change."""
        for record in self.wanted(records):
            if record.path in self.rewords:
                target = self.targets[record.path][0]
                yield record.path, CaptionRewrite(target, record.path, self.rewords[record.path])

    def unchanged_captions(self, records: Sequence[ImageRecord]) -> Iterator[CaptionRewrite]:
        """Yield the captions that go along as they are."""
        for record in self.wanted(records):
            if record.path not in self.rewords:
                yield from (CaptionRewrite(path, record.path) for path in self.images(record))
