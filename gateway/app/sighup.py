"""SIGHUP, which ends every process that says nothing of it: a gateway does, before it loads what it serves with."""

import os
import signal
import sys
from collections.abc import Callable


def ignore_sighup() -> None:
    """While a gateway starts, until `reload_on_sighup`: the policies are read then anyway. Only what was started at a
    terminal ends with it."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        is_left = left_by_terminal()
        signal.signal(signal.SIGHUP, lambda *_: sys.exit() if is_left() else None)


def left_by_terminal() -> Callable[[], bool]:
    """Tells after a SIGHUP whether it is the terminal of now that hung up: there is nobody left to serve for then. What
    was started to outlive it, as by nohup, is never left."""
    at_terminal = os.isatty(0) and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return lambda: at_terminal and not os.isatty(0)
