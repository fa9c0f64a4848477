"""Taggers: each turns images into scored tags."""
