"""The composition room: here configs become objects, and here the order of things is decided.

One file per verb with ``main(overrides)``: compose, freeze, check, seed, instantiate, act, record. Hydra is known
only here and in ``runs``; arithmetic on images or tensors happens in the rooms below. Commands may print.
"""
