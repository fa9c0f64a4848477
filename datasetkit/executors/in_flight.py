"""Pixels in flight: how much of all images the threads hold decoded at the same time.

A number of threads does not bound memory: an image of 64 megapixels takes a hundred times what one
of 0.6 takes. So each thread waits for room before it decodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local
from typing import Final

# Two images of the largest size that is read by default, or ten photos of 12 megapixels. A decoded
# pixel takes 4 bytes, and up to 12 while colours are converted: about 1.5 GB in all.
MAX_PIXELS_IN_FLIGHT: Final = 128_000_000


class PixelBudget:
    """A number of pixels that all threads share. An image beyond it is decoded alone."""

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._used = 0
        self._change = Condition()
        self._thread = local()

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count what this thread decodes inside as in flight until the end of the outermost block.

        The block must not wait for another thread that decodes.
        """
        if getattr(self._thread, "held", None) is not None:
            yield
            return
        self._thread.held = 0
        try:
            yield
        finally:
            held, self._thread.held = self._thread.held, None
            with self._change:
                self._used -= held
                self._change.notify_all()

    def take(self, pixels: int) -> None:
        """Wait until so many pixels are free, and take them. Call it inside `work`.

        A second image of the same work (a mask) does not wait: two threads that each hold one image
        and wait for a second would wait forever.
        """
        with self._change:
            if not self._thread.held:
                self._change.wait_for(lambda: self._used == 0 or self._used + pixels <= self.pixels)
            self._used += pixels
            self._thread.held += pixels


DECODED: Final = PixelBudget(MAX_PIXELS_IN_FLIGHT)
