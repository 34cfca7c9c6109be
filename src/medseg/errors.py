"""The few exceptions a user may meet. Each message names the value, the rule and the way out."""


class MedsegError(Exception):
    """Something the user can put right; the command line prints it as one line and exits with 2."""


class DataError(MedsegError):
    """An image, mask, manifest or dataset root is missing, unreadable or inconsistent."""


class ConfigError(MedsegError):
    """A configuration key or value cannot be used."""


class RunError(MedsegError):
    """A run folder is missing, incomplete or from an incompatible version."""


class ScoreError(MedsegError):
    """A score table is missing columns, corrupted or cannot be compared with another."""
