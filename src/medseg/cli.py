"""``medseg VERB [overrides]``: from the verb to its command, and from an error to one line.

Nothing heavy is imported here: the help answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

from medseg import __version__
from medseg.errors import MedsegError

VERBS = {
    "train": "fit one network on one dataset, score it, record it; -m sweeps over settings",
    "evaluate": "score a finished run on a dataset, case by case",
    "predict": "write the masks that a finished run predicts for images",
    "marks": "score an interactive run with marks that are less and less precise",
    "study": "run every cell of a study that is not done yet, then write its tables",
    "report": "write tables and figures of a study from its score tables",
    "compare": "compare finished runs patient by patient, and say what may be claimed",
    "refine": "choose post-processing and test-time views on validation, apply them once to the test side",
    "ensemble": "average the probabilities of several runs and score them together",
    "strata": "how a run does by kind of case, what went wrong, and in which cases worst",
    "card": "write the model card, the dataset card and the filled-in checklists of a run",
    "ledger": "print the accesses to test results and check that none was changed",
    "data": "check a dataset and write its cases, split and pictures",
    "ui": "open the MLflow pages of the recorded runs on this machine",
    "track": "send finished runs from their folders to MLflow, or mark broken ones",
}

USAGE_ERROR = 2
INTERRUPTED = 130

_HELP = """medseg {version}: comparisons of medical image segmentation methods that survive review

usage: medseg VERB [key=value ...] [-m] [--config-dir DIR]

{verbs}

examples:
  medseg train                                      the default network on simulated ultrasound
  medseg train net=smp_unet data=folder seed=1      other options of the groups in conf/
  medseg train -m net=unet,reagunet seed=1,2        a sweep: every combination
  medseg study study=table1 preset=quick            a whole table
  medseg compare --study cross_validation           what may be claimed of its methods, and what not
  medseg train --cfg job                            show the composed config, run nothing
  medseg train --help                               groups, options and settings of a verb

Set MEDSEG_DATA to the folder of your datasets. MEDSEG_TRACEBACK=1 shows where an error came from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    Args:
        arguments: what stands after ``medseg``; None reads the command line.

    Returns:
        0 after success, 2 after an error the user can put right, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if given[0] in ("-V", "--version"):
        print(f"medseg {__version__}")
        return 0
    verb, overrides = given[0], given[1:]
    if verb not in VERBS:
        return _refuse(_unknown(verb))
    # Threads that spin while they wait slow a training down tenfold as soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        importlib.import_module(f"medseg.commands.{verb}").main(overrides)
    except MedsegError as error:
        if os.environ.get("MEDSEG_TRACEBACK") == "1":
            raise
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("medseg: stopped", file=sys.stderr)
        return INTERRUPTED
    return 0


def _help() -> str:
    verbs = "\n".join(f"  {verb:9} {line}" for verb, line in VERBS.items())
    return _HELP.format(version=__version__, verbs=verbs)


def _refuse(message: str) -> int:
    print(f"medseg: error: {message}", file=sys.stderr)
    return USAGE_ERROR


def _unknown(verb: str) -> str:
    import difflib

    nearest = difflib.get_close_matches(verb, VERBS, n=1)
    guess = f" Did you mean '{nearest[0]}'?" if nearest else ""
    return f"unknown verb '{verb}'.{guess} Choose one of: {', '.join(VERBS)}."
