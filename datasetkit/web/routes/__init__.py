"""The routes of the page, one module for each group of them."""

from __future__ import annotations

from datasetkit.web.routes import (
    captions,
    config,
    dataset,
    events,
    grids,
    images,
    jobs,
    project,
    runs,
    start,
    uploads,
)
from datasetkit.web.table import ApiRoute

ROUTES: tuple[ApiRoute, ...] = (
    *project.ROUTES,
    *config.ROUTES,
    *events.ROUTES,
    *jobs.ROUTES,
    *runs.ROUTES,
    *captions.ROUTES,
    *images.ROUTES,
    *dataset.ROUTES,
    *grids.ROUTES,
    *uploads.ROUTES,
    *start.ROUTES,
)
