"""``medseg data ACTION``: everything about a dataset before anything is trained on it. One file an action."""

import importlib
from collections.abc import Sequence

from medseg.errors import ConfigError

ACTIONS = {
    "list": "the datasets that conf/data/ knows: labels, licence, whether they are on this machine",
    "info": "all about one of them, and how to get it: medseg data info tn3k",
    "fetch": "download an archive that is public: medseg data fetch NAME --target DIR",
    "prepare": "an official archive, or your own export, into medseg's layout: medseg data prepare NAME --source DIR",
    "check": "read every file once, report what is wrong, write the fingerprint: medseg data check data=ddti",
    "plan": "size, patch, batch and depth that suit data and machine, as overrides: medseg data plan data=acdc",
    "audit": "look for leaks between the sides of the split and write the certificate: medseg data audit data=ddti",
    "preview": "a contact sheet of cases as the network gets them: medseg data preview data=acdc",
    "deidentify": "burnt-in text and DICOM tags out of files: medseg data deidentify --source DIR --target DIR",
    "boxes": "where a coarse run sees the object in each case, for preprocess=cascade: medseg data boxes run=RUN",
    "register": "a moving modality onto a reference grid: medseg data register --source DIR --target DIR",
}


def main(arguments: Sequence[str]) -> None:
    """Run one action.

    Raises:
        ConfigError: there is no such action.
    """
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return
    action, rest = arguments[0], list(arguments[1:])
    if action not in ACTIONS:
        raise ConfigError(f"medseg data: unknown action '{action}'; choose one of: {', '.join(ACTIONS)}.")
    # Modules carry the action's name, list apart, which would hide the built-in one.
    name = {"list": "catalogue", "info": "catalogue"}.get(action, action)
    importlib.import_module(f"medseg.commands.datasets.{name}").main([action, *rest] if name != action else rest)


def _help() -> str:
    lines = "\n".join(f"  {action:10} {line}" for action, line in ACTIONS.items())
    return f"usage: medseg data ACTION [arguments]\n\n{lines}"
