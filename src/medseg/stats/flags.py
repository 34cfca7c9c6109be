"""Flags: what nobody may overlook of a result, in the words that stand in every table, picture and page."""

from medseg.selection import SELECTION_SIDE

SYNTHETIC = "SYNTHETIC"
"""Images are simulated."""
LEAKY = "LEAKY SPLIT"
"""Near copies or other images of test patients were trained on."""
ONE_SEED = "ONE SEED"
"""How far trainings scatter is unknown."""
FLAGS = (SYNTHETIC, LEAKY, SELECTION_SIDE, ONE_SEED)
"""All of them, in the order in which they are printed."""


def flags_of(*, synthetic: bool, leaky: bool) -> tuple[str, ...]:
    """Return the flags of images and their split."""
    return (SYNTHETIC,) * bool(synthetic) + (LEAKY,) * bool(leaky)
