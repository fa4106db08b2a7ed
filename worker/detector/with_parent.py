"""A child process that ends when the process that started it ends, even by SIGKILL."""

import fcntl
import multiprocessing
import os
import signal
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """From now on, the kernel kills this process and all that it starts when its parent has ended. Linux only.

    Call it in a process that multiprocessing started. Such a process has a pipe whose other end only its parent holds,
    and which the kernel closes however the parent ends. Here the kernel sends SIGKILL at that moment, so it does not
    matter whether the process is in native code and cannot run Python. PR_SET_PDEATHSIG would send the signal as soon
    as that thread of the parent ends which started the process.

    The signal goes to a process group of this process. So Ctrl-C, which a terminal sends to the group of the parent,
    does not reach it: it is the parent that ends it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")
    pipe = parent.sentinel
    os.setpgrp()
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpid())  # negative: the group
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([pipe], timeout=0):  # the parent ended before the kernel knew what to do then
        os.kill(os.getpid(), signal.SIGKILL)
