"""The networks that can be trained (LoRA, LoCon, LoHa, LoKr, DoRA), their ranks, rates and
dropout.
"""
