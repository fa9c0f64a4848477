"""Grids of images that compare LoRAs: axes, cells, contact sheets, the page, scores."""
