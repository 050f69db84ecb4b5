"""What every worker does about its own process: end with its parent, know its peak memory."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import threading


def end_with_parent(reply_fd: int) -> None:
    """End this process group as soon as nobody can read the reply pipe any more.

    The parent cannot promise to end its workers (it may be killed itself), the pipe can.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(reply_fd, 0)  # error and hang-up are always reported
        poll.poll()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if os.getpgrp() == os.getpid():
        threading.Thread(target=watch, daemon=True).start()


def peak_memory() -> int:
    """The largest resident size this process has had, in bytes.

    Linux carries `ru_maxrss` over from the process that forked this one, so its own high-water
    mark is read from /proc where there is one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
