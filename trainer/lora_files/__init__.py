"""LoRA files after training: read, described, checked, resized, merged, converted, extracted.

All of it is numpy in float64, one layer at a time; nothing here needs torch.
"""
