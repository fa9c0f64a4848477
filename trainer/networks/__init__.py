"""The kinds of network that are trained: LoRA and LoCon, LoHa, LoKr; their ranks by block, rates,
dropouts and mean.
"""
