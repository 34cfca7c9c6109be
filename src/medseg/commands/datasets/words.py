"""A command line of options that ends in one line when it is wrong, like every other medseg command."""

import argparse
from typing import NoReturn

from medseg.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a ConfigError and options are never guessed from their beginnings."""

    def __init__(self, *, prog: str, description: str | None) -> None:
        super().__init__(prog=prog, description=(description or "").replace("``", ""), allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help.")
