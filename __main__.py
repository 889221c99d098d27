"""`python -m chakrasim`, the same as the command `chakrasim`."""

from chakrasim.replay.cli.main import main

if __name__ == "__main__":
    main(prog_name="chakrasim")
