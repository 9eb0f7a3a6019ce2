"""Standard streams that are closed, or whose reader has gone: `gateway schema | head`."""

import os
import signal
import sys

_LAST = 2  # of the standard streams' descriptors, that of errors
CUT_OFF = 128 + signal.SIGPIPE  # the exit code of a command whose reader had enough, as a shell tells it


def hold_streams() -> None:
    """Have nothing in the place of each standard stream that is closed, for us and whom we start: what is opened next
    would stand there, a client's connection, say, and the log would be written to it."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= _LAST:
        os.set_inheritable(nowhere, True)
    os.close(nowhere)


def let_go() -> None:
    """What is printed from now on goes nowhere, and is no error when the process ends either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
