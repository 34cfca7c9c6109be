"""Lightning lives here; modules receive finished parts.

This room may use optimizers, the live metrics and the record of a run while it is being made. It knows neither
Hydra nor MLflow: the tracker it reports to arrives as an argument.
"""
