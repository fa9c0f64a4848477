"""Errors of the page's requests."""

from __future__ import annotations

from datasetkit.core.errors import InputError


class NotAllowed(InputError):
    """The page may not do this; a person at the terminal may."""


class NotFound(InputError):
    """Nothing has the id of the request."""
