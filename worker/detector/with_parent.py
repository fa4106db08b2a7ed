"""A child process that ends when the process that started it ends, even by SIGKILL."""

import fcntl
import multiprocessing
import os
import signal
from multiprocessing.connection import wait


def end_with_parent() -> None:
    """From now on, the kernel kills this process when its parent has ended. Linux only.

    Call it in a process that multiprocessing started. Such a process has a pipe whose other end only its parent holds,
    and which the kernel closes however the parent ends. Here the kernel sends SIGKILL at that moment. So this works
    while the process computes in native code and cannot run Python. PR_SET_PDEATHSIG would send the signal as soon as
    the parent's thread ends that started the process.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("this process was not started by multiprocessing")
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([pipe], timeout=0):  # the parent ended before the kernel knew what to do then
        os.kill(os.getpid(), signal.SIGKILL)
