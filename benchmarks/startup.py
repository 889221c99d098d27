"""How soon the command line answers: `python benchmarks/startup.py`.

`chakrasim --help` beside a Python that only imports click: their ratio says what chakrasim adds, on a machine
of any speed. Exits with 1 where it is over `MAX_RATIO`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

MAX_RATIO = 2.0
"""`--help` reads the options of all commands, and must cost no more than click does once more."""
REPEATS = 15

PROGRAMS = {
    "import click": ["-c", "import click"],
    "chakrasim --help": ["-m", "chakrasim.replay.cli", "--help"],
}


def seconds(arguments: list[str], bytecode: str) -> float:
    """Wall-clock time of a Python with these arguments that keeps compiled modules in this folder."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


if __name__ == "__main__":
    # The shortest of runs that take turns: others on the machine only make them longer.
    with tempfile.TemporaryDirectory() as bytecode:
        rounds = [
            {name: seconds(arguments, bytecode) for name, arguments in PROGRAMS.items()}
            for _ in range(REPEATS)
        ]
    shortest = {name: min(times[name] for times in rounds) for name in PROGRAMS}
    for name, time_s in shortest.items():
        print(f"{name:<18}{time_s * 1000:6.0f} ms")
    ratio = shortest["chakrasim --help"] / shortest["import click"]
    print(f"{'ratio':<18}{ratio:6.2f}, at most {MAX_RATIO}")
    sys.exit(ratio > MAX_RATIO)
