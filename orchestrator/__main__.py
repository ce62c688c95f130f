"""`python -m orchestrator`, and the installed script: a process that is the command line's own.

Here it begins and ends. What stands between is `orchestrator.cli.main`, which any process may
call. The imports at the top are what it takes to answer an interrupt; all others come later.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False  # as `typing` has it, whose import takes longer than all of these
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import Final, NoReturn

_INTERRUPTED: Final = 128 + signal.SIGINT
PATIENCE_SECONDS = 5.0
"""How long threads that `env.py` has left behind may go on when the command has ended."""
_LOOK_SECONDS: Final = 0.1


def console() -> None:
    """Run the command that `sys.argv` names, and end the process with its exit code.

    The process ends when the command has ended, whatever was imported in it. It is forced to end
    only where Python itself would wait: see `_let_end`.
    """
    _open_missing_descriptors()
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:  # and not ignored, as it is in the background of a shell
        signal.signal(signal.SIGINT, _stop)
        # Called last, before Python gives the signal back to the system, which would kill.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    from orchestrator.cli import main
    from orchestrator.cli.streams import lose_words_only

    lose_words_only()
    code = 1
    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        raise
    except KeyboardInterrupt:
        _stop()
    finally:
        if code == _INTERRUPTED:
            # Nobody waits any more; and Python would let the signal kill the process, where the
            # exception went through code that is compiled as it runs: a dataclass, say.
            _end(code)
        _let_end(code, interruptible=interruptible)


def _open_missing_descriptors() -> None:
    """Open 0, 1 and 2 where whoever started this process has closed them.

    Else the lock or the journal would get such a number, and whatever is printed by a program
    that a revision starts.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _stop(*_: object) -> NoReturn:
    """Answer an interrupt that comes before the command has begun.

    At once, and not by an exception: raised in the middle of an import it may come out anywhere,
    or nowhere.
    """
    try:
        os.write(2, b"Stopped before anything was done.\n")
    except OSError:
        pass
    os._exit(_INTERRUPTED)


def _let_end(code: int, *, interruptible: bool) -> None:
    """See to it that Python ends this process, as soon as the threads that are left let it.

    Python waits for all threads but daemons, without a limit. Up to 3.12 it waits for ever for
    one that imported a copy of `threading`, as eventlet makes one: the lock that tells the end of
    a thread has been replaced by the copy's. Such a thread is in no list of threads any more.
    """
    import threading
    import time

    deadline = time.monotonic() + PATIENCE_SECONDS
    main = threading.main_thread()

    def look(_: int, frame: FrameType | None) -> None:
        left = [one for one in threading.enumerate() if one is not main and not one.daemon]
        waits = frame is not None and frame.f_globals is vars(threading)
        if (waits and not left) or time.monotonic() > deadline:
            _end(code, left_behind=[one.name for one in left])

    def stop_looking() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if interruptible:
            signal.signal(signal.SIGINT, lambda *_: os._exit(code))

    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: _end(code))
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)
    atexit.register(stop_looking)  # called first, as the last one, when no thread is waited for


def _end(code: int, left_behind: Sequence[str] = ()) -> NoReturn:
    """End the process now, after what Python does at its end: exit handlers, and open files."""
    import gc
    import io

    for thread in left_behind:
        print(f"orchestrator: the thread {thread!r} goes on, and is left behind.", file=sys.stderr)
    atexit._run_exitfuncs()
    gc.unfreeze()  # what is frozen is not among the objects
    for one in gc.get_objects():
        if issubclass(type(one), (io.TextIOWrapper, io.BufferedWriter)):
            try:
                one.flush()
            except Exception:  # noqa: BLE001, S110 - closed, full, or somebody else's
                pass
    os._exit(code)


if __name__ == "__main__":
    console()
