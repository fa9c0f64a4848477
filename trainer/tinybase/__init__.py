"""The tiny base: a Stable Diffusion 1 kind of model, small enough to be shipped, that draws
64-pixel portraits.
"""
