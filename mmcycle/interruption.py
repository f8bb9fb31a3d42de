"""SIGINT and SIGTERM, collected instead of obeyed at once, so that the step or item in hand is finished and saved."""
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal stopped the work after the item in hand; the command line prints it and exits with `code`."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.code = 128 + number


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of the first; the second one of a kind acts as it always did."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():      # only the main thread may ask for signals
        yield caught
        return

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
