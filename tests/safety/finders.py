"""Detectors for tests: the subject and the face are in the middle of every image, at once and
everywhere the same.
"""

from __future__ import annotations

from PIL import Image, ImageDraw

from datasetkit.vision.faces import Face

DETECTOR = "middle-for-tests"


class MiddleSubject:
    """Replaces `SubjectFinder`: the subject is an ellipse with a soft edge, and nothing in a black
    image.
    """

    def __init__(self, name: str, provider: str = "auto") -> None:
        self.name, self.device = name, "cpu"

    def mask(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        drawn = Image.new("L", image.size)
        if image.getextrema() != ((0, 0),) * 3:
            pen = ImageDraw.Draw(drawn)
            for part, value in ((0.2, 128), (0.25, 255)):
                box = (width * part, height * part, width * (1 - part), height * (1 - part))
                pen.ellipse(box, fill=value)
        return drawn


class MiddleFace:
    """A `FaceDetector` that finds one face in the middle of every image, and none in a black
    one.
    """

    def find(self, image: Image.Image, *, threshold: float = 0.5) -> tuple[Face, ...]:
        if image.getextrema() == ((0, 0),) * 3:
            return ()
        width, height = image.size
        return (Face(width * 0.4, height * 0.3, width * 0.6, height * 0.6, 0.9),)
