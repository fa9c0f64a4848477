"""Model families: what differs between Stable Diffusion 1 and the models to come, one file of
functions each.
"""
