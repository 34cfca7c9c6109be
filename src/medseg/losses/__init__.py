"""Losses map (logits, mask) to a scalar; the function comes first, the module around it second.

Only tensors that were handed in are touched: no networks, no files, no means over cases. ``IGNORE`` is
interpreted in ``encoding.py`` and nowhere else.
"""
