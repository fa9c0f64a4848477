"""Checks and measurements of the trainer and the taggers on a GPU; `tests/gpu/run.sh` runs them."""
