"""medseg: comparisons of medical image segmentation methods that survive review.

Hydra configs (``conf/``) compose a dataset, a network and a protocol; Lightning trains them on
patient-grouped splits; every run is recorded in a folder and mirrored to MLflow; tables are computed
from per-case scores.
"""

__version__ = "0.1.0"
