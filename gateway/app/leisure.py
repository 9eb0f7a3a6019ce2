"""A thread that works only when others leave it a core, and that nobody need wait for.

Not SCHED_IDLE: on a machine whose cores are all taken it gives a thread some milliseconds every few seconds, and so
long would everybody wait for a lock that it holds (the interpreter's, the database's), or for its end.
"""

import ctypes
import os
import struct
import threading
from contextlib import suppress

LEAST = 19  # nice: a seventieth of a core that others want
# The least that the scheduler gives at a time, in nanoseconds: a call that comes waits no longer for the core. Linux
# before 6.12 takes no such wish, and lets whoever wakes take the core from a nice thread at once (EEVDF does not).
SLICE = 100_000
_SCHED_SETATTR = {
    "x86_64": 314,
    "aarch64": 274,
    "riscv64": 274,
}  # Linux's arch/*/entry/syscalls: glibc wraps it not
_ATTR = struct.Struct("=IIQiIQQQ")  # struct sched_attr of sched_setattr(2): 48 bytes


def take_time() -> None:
    """Of the thread that asks, for good: who may not raise priorities could not undo it. Where a sandbox forbids it,
    the thread stays as it is."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST)
    if (number := _SCHED_SETATTR.get(os.uname().machine)) is not None:
        attr = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, 0, LEAST, 0, SLICE, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attr, 0)
