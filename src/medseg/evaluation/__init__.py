"""A module and cases in, a score table and pictures out: no means over cases here, no choice of anything."""
