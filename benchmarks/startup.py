"""CPU seconds of ``medseg --help``, beside a bare interpreter and ``import torch``.

The help has to answer at once: below 0.15 CPU seconds, whatever the machine's torch costs to import.
"""

import resource
import statistics
import subprocess
import sys

REPEATS = 7
LIMIT = 0.15
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "medseg --help": ["-m", "medseg", "--help"],
    "import torch": ["-c", "import torch"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Return user plus system seconds of one child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> int:
    """Print the medians; the exit code is 1 when the help is over its limit."""
    medians = {}
    for name, arguments in COMMANDS.items():
        cpu_seconds(arguments)  # the first run reads the files from disk
        repeats = 3 if name == "import torch" else REPEATS
        medians[name] = statistics.median(cpu_seconds(arguments) for _ in range(repeats))
        print(f"{name:16} {medians[name]:7.3f} s CPU")
    print(f"help / torch     {medians['medseg --help'] / medians['import torch']:7.3f}")
    return int(medians["medseg --help"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
