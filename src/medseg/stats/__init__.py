"""Statistics: score tables in, numbers with their uncertainty out.

Here live the score table itself (``table``: the only file here that touches the disk), the headline of one run
(``aggregate``) and intervals over patients (``bootstrap``). The rules of the table are in ``check``. NumPy, SciPy and
pandas only: a table of a paper is rebuilt from ``scores.csv`` on a machine without torch. May import ``errors``,
``rng`` and ``scores``; no other room.
"""
