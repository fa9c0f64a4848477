"""Taggers: each turns pictures into scored tags."""
