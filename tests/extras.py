"""Optional packages that tests need."""

from importlib.util import find_spec

import pytest


def require_rembg() -> None:
    """Skip the test where rembg is missing, without importing it: `importorskip` would load the
    compiler that rembg's own import starts, which takes seconds, and most of a minute the first
    time.
    """
    if find_spec("rembg") is None:
        pytest.skip("rembg is not installed")
