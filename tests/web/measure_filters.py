"""Measure filters on ten thousand images: `python -m tests.web.measure_filters`."""

from __future__ import annotations

import time
from pathlib import Path

from datasetkit.captions.filters import parse
from datasetkit.captions.predicates import predicate
from datasetkit.core.records import Caption, ImageRecord
from datasetkit.verbs.shared.image_facts import DatasetFacts, ImageFacts
from tests.web.datasets import caption_tags

NUMBER = 10_000
FILTERS = [
    "tag:lips", "NOT tag:lips AND tags:>20", "score:*hair>0.5", "tag:*hair*", "lips",
    "caption:*a*b*c*", "score:lips>0.5", "score:<0.4", "name:p0*9 OR path:x",
    "(tag:*eyes OR tag:solo) AND NOT caption:hat AND chars:<500", "tokens:>75",
]  # fmt: skip


def facts(number: int) -> ImageFacts:
    tags = caption_tags(number)
    scores = {tag: (number * 37 + n * 991) % 10_000 for n, tag in enumerate(tags)}
    dataset = DatasetFacts(lambda image: scores, lambda caption: False, lambda path: False)
    record = ImageRecord(Path(f"/set/p{number:05}.jpg"), "", 512, 512, Caption(tags))
    return ImageFacts(record, f"p{number:05}.jpg", "set", 1, dataset)


def main() -> None:
    images = [facts(number) for number in range(NUMBER)]
    for where in FILTERS:
        times = []
        for _ in range(4):
            began = time.perf_counter()
            matches = predicate(parse(where))
            count = sum(map(matches, images))
            times.append((time.perf_counter() - began) * 1000)
        print(f"{where:80} {count:6,}  first {times[0]:7.1f} ms, then {min(times[1:]):6.1f} ms")


if __name__ == "__main__":
    main()
