"""The four networks that a review of thyroid ultrasound compares, as far as their publications describe them.

Each docstring separates what is published from what is our reading; parameter counts are pinned by tests.
"""
