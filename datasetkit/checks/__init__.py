"""Checks: what is wrong with a data set, one small function a check, registered in one table."""
