"""Processes that must not outlive their parent (Linux)."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
#: Loaded at import, so that the call is safe between fork and exec.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when the thread that started it ends.

    Raises:
        OSError: The kernel refuses.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
