"""The inspection room: a dataset read once, what is wrong with it, its fingerprint, and the plan made from that.

May import the rest of the data room, ``rng``, ``types`` and ``errors``. Nothing here stops at the first fault: whatever
training would refuse, or would read without a word, becomes a finding that names case, file and remedy. Knows no
network; the probe takes one as an argument.
"""
