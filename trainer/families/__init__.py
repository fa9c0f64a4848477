"""Model families (Stable Diffusion 1, 2 and XL): a module of functions for each, behind a
Protocol.
"""
