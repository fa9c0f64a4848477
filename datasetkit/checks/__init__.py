"""Checks: problems of a dataset, one small function per check, registered in one table."""
