"""The verbs, one module for those that belong together; `datasetkit.api` is their public face."""
