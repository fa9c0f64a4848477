"""`dsk cutout`: the subjects of images on one plain colour, their masks, and captions to match."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasetkit.captions import backgrounds
from datasetkit.captions.caption import with_tags
from datasetkit.core.files import mask_path
from datasetkit.core.records import Caption, RunReport
from datasetkit.images.scan import Scan
from datasetkit.options.images import CutoutOptions
from datasetkit.outputs.folder import prepare_output_folder, scan_images, unique_name
from datasetkit.outputs.gather import gather
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.produce import produce
from datasetkit.outputs.renamed_sources import RenamedSource
from datasetkit.outputs.sidecars import CaptionRewriteResult
from datasetkit.outputs.spec import OutputSpec
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext, open_project
from datasetkit.stages.cutout import CutoutImage, open_cutout
from datasetkit.vision import colours, providers
from datasetkit.vision.subject import licence, require_name, require_rembg

WAITING = "would be cut out"


@dataclass(frozen=True, slots=True)
class CutoutResult:
    """What cutout did: one outcome per image, where the images are now, and how captions changed.

    licence: of the model's weights. kept: the copies of images in which no subject was found.
    entry: the images' number in the history; the captions have their own.
    """

    report: RunReport[CutoutImage]
    out: Path
    model: str
    licence: str
    captions: CaptionRewriteResult
    kept: tuple[Path, ...]
    entry: int | None
    followed: tuple[RenamedSource, ...] = ()


def cutout(
    folder: Path, out: Path | None, options: CutoutOptions, context: RunContext = DEFAULT_CONTEXT
) -> CutoutResult:
    """Cut the subject out of every image of `folder` into `out` (default: a sibling
    `<folder>-cutout`).

    Captions follow: one `<colour> background`, `simple background`, no places. Masks go to
    `masks/`. An image whose subject is not found is `Failed`, and copied as it is. A second run
    redoes only what changed. Raises DatasetError without images, PlanConflict where an output
    would replace a file that dsk did not make, ConfigError, MissingExtra and ModelFileError for the
    model.
    """
    require_model(options)
    out = prepare_output_folder(folder, out, "cutout", options, context)
    if not context.dry_run:
        require_installed(options)
    with open_project(out, context, create_folder=True) as project:
        images = scan_images(folder, project, options)
        spec = _spec(images, out, options)
        plan = plan_outputs(images, spec, gather(images, spec, project))
        produced = produce(plan, partial(open_cutout, options), project, workers=options.workers)
    return CutoutResult(
        produced.report, out, options.model, licence(options.model), produced.captions,
        produced.fallbacks, produced.entry, produced.followed,
    )  # fmt: skip


def require_model(options: CutoutOptions) -> None:
    """Raise ConfigError for an unknown model or provider, before any work is spent."""
    require_name(options.model)
    providers.require_known(options.provider)


def require_installed(options: CutoutOptions) -> None:
    """Raise MissingExtra if rembg, or the provider by its name, is not installed."""
    require_rembg()
    if options.provider != providers.AUTO:
        providers.choose(options.provider)


def output_names(images: Scan, out: Path) -> dict[Path, tuple[Path, ...]]:
    """Return each image's output and mask: a PNG at the same path below `out`; of images with the
    same name, the later ones are named `a_2`, `a_3`.
    """
    taken: set[str] = set()
    targets: dict[Path, tuple[Path, ...]] = {}
    for record in images.records:
        path = (out / record.path.relative_to(images.folder)).with_suffix(".png")
        target = unique_name(path, taken)
        targets[record.path] = (target, mask_path(target))
    return targets


def recipe(options: CutoutOptions) -> str:
    """Name what makes an output: the options that change its bytes, and the version of the code
    that makes it.
    """
    return (
        f"cutout-1 {options.model} {options.bg} {options.keep_alpha} {options.feather} "
        f"{options.min_area}"
    )


def _spec(images: Scan, out: Path, options: CutoutOptions) -> OutputSpec:
    return OutputSpec(
        out,
        recipe(options),
        output_names(images, out),
        WAITING,
        rewords={
            record.path: partial(_with_background, options=options, image=record.id)
            for record in images.records
        },
        fallback=f"{recipe(options)} kept",
        max_pixels=options.max_pixels,
        captions_note=f": {options.bg} background",
    )


def _with_background(caption: Caption, *, options: CutoutOptions, image: str) -> Caption:
    name = background_name(options.bg, image)
    return with_tags(caption, lambda tags: backgrounds.reworded(tags, name))


def background_name(bg: str, image: str) -> str:
    """Return what captions call the colour behind an image."""
    colour = backgrounds.colour(bg, image)
    named = {rgb: name for name, rgb in backgrounds.NAMED.items()}
    return named.get(colour) or colours.name(colour)
