"""A child process that ends when the process that started it ends, even by SIGKILL."""

import fcntl
import multiprocessing
import os
import signal
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """From now on, the kernel kills this process and its children when the parent of this process ends. Linux only.

    Call it in a process that multiprocessing started. Such a process has a pipe whose other end only its parent holds,
    and which the kernel closes however the parent ends. At that moment, the kernel sends SIGKILL. This also works while
    the process runs native code and no Python. PR_SET_PDEATHSIG would send the signal too early: when the parent's
    thread that started the process ends.

    The process gets a process group of its own, and the signal goes to this group. A terminal sends Ctrl-C to the
    parent's group, so Ctrl-C does not reach the process. The parent ends it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")
    pipe = parent.sentinel
    os.setpgrp()
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpid())  # negative: the group
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([pipe], timeout=0):  # the parent ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
