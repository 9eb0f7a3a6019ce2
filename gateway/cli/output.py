"""Standard output whose reader has gone: `gateway schema | head`."""

import os
import signal
import sys

CUT_OFF = 128 + signal.SIGPIPE  # the exit code of a command whose reader had enough, as a shell tells it


def let_go() -> None:
    """What is printed from now on goes nowhere, and is no error when the process ends either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
