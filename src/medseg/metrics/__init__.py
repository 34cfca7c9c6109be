"""Metrics: one case's label maps and its pixel size in, raw numbers out.

Here live confusion counts (``overlap``), border distances (``surface``, with the neighbour search of ``nearest``), band
overlap (``boundary``), centre lines (``skeleton``), lesions (``lesion``), calibration (``calibration``), all of them of
one case (``case``), published scripts (``legacy``) and the live record of an epoch that keeps them case by case and
gathers them over processes (``epoch``; the only file here that knows torch). May import ``errors``, ``types`` and
``scores``. May not touch networks, files or other rooms. Empty masks follow one policy: that of
``medseg.scores`` for overlap, of ``surface.BorderDistances`` for distances; nothing undefined is dropped or replaced
without being counted.
"""
