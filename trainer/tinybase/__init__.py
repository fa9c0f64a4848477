"""The tiny base: a small model with Stable Diffusion 1's structure that generates 64-pixel
portraits.
"""
