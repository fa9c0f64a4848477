"""Model families (Stable Diffusion 1, 2 and XL, and transformers): a module of functions for each,
behind a Protocol.
"""
