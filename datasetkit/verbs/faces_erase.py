"""`dsk faces erase`: images without faces, or without text, for a LoRA of a garment or a style."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from datasetkit.captions import vocabulary
from datasetkit.captions.rules import RuleSet, apply_to, build, load_groups
from datasetkit.core.files import mask_path
from datasetkit.core.records import Caption
from datasetkit.options.images import FacesOptions
from datasetkit.outputs.gather import gather
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.produce import produce
from datasetkit.outputs.spec import OutputSpec, Reword, Targets
from datasetkit.project.session import DEFAULT_CONTEXT, RunContext
from datasetkit.stages.base import bound
from datasetkit.stages.faces import ErasedImage, FaceBoxes, erase_image
from datasetkit.verbs.shared.faces import (
    FaceScan,
    FacesResult,
    draw_sheet,
    open_face_scan,
    output_names,
    recipe,
    result,
)

# The tags of faces, and of writing in the image, that a caption loses with them.
FACE_TAGS = ("@face",)
TEXT_TAGS = (
    "signature", "watermark", "sample watermark", "artist name", "character name", "copyright name",
    "copyright notice", "company name", "web address", "dated", "timestamp", "page number",
    "*username", "*logo", "* text", "speech bubble", "subtitled", "lyrics",
)  # fmt: skip


def erase_faces(
    folder: Path, out: Path | None, options: FacesOptions, context: RunContext = DEFAULT_CONTEXT
) -> FacesResult[ErasedImage]:
    """Fill every face, with `text` every line of text too, or with `only` one of them, into `out`
    (default: a sibling `<folder>-erased`).

    Every image is written, its mask where something was erased; its caption loses the words for
    what is gone. A second run redoes only what changed. Raises as `resize` does.
    """
    with open_face_scan(folder, out, "erased", options, context) as scan:
        boxes = scan.detections.boxes
        text = (options.text_threshold,) if options.finds_text else ()
        only = () if options.finds_faces else ("only",)
        spec = OutputSpec(
            scan.out,
            recipe("erase", options, options.fill, *text, *only),
            _targets(scan),
            "would be written",
            rewords={path: _reword(b) for path, b in boxes.items() if _anything(b)},
        )
        plan = plan_outputs(scan.images, spec, gather(scan.images, spec, scan.project))
        sheet = draw_sheet(scan, options)
        produced = produce(
            plan,
            partial(bound, erase_image, options),
            scan.project,
            workers=options.workers,
            details=boxes,
        )
        return result(scan, produced, options, sheet=sheet)


def _targets(scan: FaceScan) -> Targets:
    """Return each image's output, and its mask if something is erased."""
    boxes = scan.detections.boxes
    records = [record for record in scan.images.records if record.path in boxes]
    names = output_names([(record, 1) for record in records], scan)
    return {
        record.path: (path, mask_path(path)) if _anything(boxes[record.path]) else (path,)
        for record, path in zip(records, names, strict=True)
    }


def _anything(boxes: FaceBoxes) -> bool:
    return bool(boxes.faces or boxes.text)


def _reword(boxes: FaceBoxes) -> Reword:
    exclude = (*(FACE_TAGS if boxes.faces else ()), *(TEXT_TAGS if boxes.text else ()))
    rules = build(exclude=exclude, vocabulary=vocabulary.load(), groups=load_groups())
    return partial(_without_tags, rules=rules)


def _without_tags(caption: Caption, *, rules: RuleSet) -> Caption:
    return apply_to(rules, caption, category=vocabulary.load().category).caption
