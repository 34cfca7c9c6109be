"""The reporting room: tables in Markdown, LaTeX and CSV, and pictures, from score tables and journals alone.

May import ``stats``, ``scores``, ``journal``, ``rng`` and ``errors``, and touch the files it writes. Knows neither
torch nor MLflow: a table can be rebuilt on a machine without either. Matplotlib is imported inside the functions
that draw.
"""
