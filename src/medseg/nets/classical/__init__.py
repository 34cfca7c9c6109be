"""Baselines without gradients, in the face of a net: a fitted threshold, and an ellipse through a user's marks."""
