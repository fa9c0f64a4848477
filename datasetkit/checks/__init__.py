"""Checks: what is wrong with a dataset, one small function a check, registered in one table."""
