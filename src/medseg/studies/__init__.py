"""Study files: read and checked (``file``), expanded into the cells that a table needs (``cells``).

A study is one yaml file, ``experiments/<study>/study.yaml``. Its sweeps span cells (network x seed x split ...); one
sweep is one multirun of ``medseg train``, one cell is one run. The file's keys are explained in
``experiments/README.md``.
"""
