"""The example stage: what a newcomer copies works, from the scan to the undo."""

from functools import partial

import numpy as np

from datasetkit import api
from datasetkit.core.records import Failed
from datasetkit.images import pixels
from datasetkit.images.scan import scan
from datasetkit.outputs.gather import gather
from datasetkit.outputs.plan import plan_outputs
from datasetkit.outputs.produce import produce
from datasetkit.outputs.spec import OutputSpec
from datasetkit.project.session import DEFAULT_CONTEXT, open_project
from datasetkit.stages.base import BlurOptions, blur_image
from tests.safety.datasets import caption, write_image


def blurred(place, options):
    """Do what a verb does with the example stage."""
    out = place / "out"
    with open_project(out, DEFAULT_CONTEXT) as project:
        images = scan(place / "imgs", project.store, with_ids=True, captions=False)
        names = {record.path: (out / record.path.name,) for record in images.records}
        spec = OutputSpec(out, f"blur-1 {options.radius}", names, "would be blurred")
        plan = plan_outputs(images, spec, gather(images, spec, project))
        return produce(plan, lambda: partial(blur_image, options=options), project)


def test_the_example_makes_images_once_and_takes_captions_along(tmp_path):
    image = write_image(tmp_path / "imgs" / "a.png", 1)
    caption(image, "sks\n")
    write_image(tmp_path / "imgs" / "small.png", 2, (4, 4))
    (tmp_path / "out").mkdir()
    first = blurred(tmp_path, BlurOptions())
    assert [done.value.radius for done in first.report.done] == [2.0, 1.0]
    assert [bool(done.note) for done in first.report.done] == [False, True]
    pairs = (image, tmp_path / "out" / "a.png")
    spread = [np.asarray(pixels.load(path))[..., 0].std() for path in pairs]
    assert spread[1] < spread[0] / 2
    assert (tmp_path / "out" / "a.txt").read_text(encoding="utf-8") == "sks\n"
    assert blurred(tmp_path, BlurOptions()).report.done == []
    api.undo(tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".dsk"]
    assert len(blurred(tmp_path, BlurOptions(radius=1)).report.done) == 2


def test_a_broken_image_costs_only_itself(tmp_path):
    write_image(tmp_path / "imgs" / "a.png", 1)
    whole = write_image(tmp_path / "imgs" / "b.png", 2)
    whole.write_bytes(whole.read_bytes()[:-40])
    (tmp_path / "out").mkdir()
    _, failed = blurred(tmp_path, BlurOptions()).report.outcomes
    assert isinstance(failed, Failed) and not (tmp_path / "out" / "b.png").exists()
