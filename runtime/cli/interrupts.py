"""Ctrl-C that lets a command finish what it is at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user has asked to stop."""

    def __init__(self) -> None:
        self.is_asked = False


@contextmanager
def interruptible(noted: Callable[[], None]) -> Iterator[Interrupt]:
    """Note the first SIGINT, and call `noted`, instead of raising `KeyboardInterrupt`; a second one raises it.

    A process that was started to ignore SIGINT goes on ignoring it.
    """
    interrupt, before = Interrupt(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield interrupt
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.is_asked = True
        noted()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
