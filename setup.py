"""The packages of the distribution; everything else is in pyproject.toml.

Only here because ``conf/`` lies beside ``src/`` and travels as ``medseg.conf``, which no setting can express.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages("src"), "medseg.conf"])
