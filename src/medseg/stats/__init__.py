"""Statistics: score tables in, numbers with their uncertainty out.

Here live the score table itself (``table``: with ``reliability`` and ``case_table`` the only files here that touch the
disk), the headline of one run (``aggregate``), intervals over patients (``bootstrap``), and what several runs together
allow to say: ``evidence`` puts them side by side, ``crossed``, ``paired`` and ``bayes`` test, ``gate`` decides on the
words, ``mixed`` and ``ranking`` describe, ``comparison`` holds it all. ``strata`` and ``taxonomy`` look into one run.
The rules of the table are in ``check``. NumPy, SciPy and pandas, and statsmodels inside functions of ``mixed``: a table
of a paper is rebuilt from ``scores.csv`` on a machine without torch. May import ``errors``, ``rng`` and ``scores``; no
other room.
"""
