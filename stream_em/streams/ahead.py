"""Reading in the background: the next blocks are decoded while the consumer learns from this one."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator

from stream_em.streams.records import Block

DEPTH = 4
_LOOK_UP_SECONDS = 0.1
_PATIENCE_SECONDS = 0.5


def read_ahead(source: Iterable[Block], depth: int = DEPTH) -> Generator[Block, None, None]:
    """Yield the blocks of `source` in their order, read by a thread that is at most `depth` blocks ahead.

    What the source raises is raised here. The thread ends when the consumer stops, early or not.
    """
    for block in read_patiently(source, None, depth):
        if block is not None:
            yield block


def read_patiently(
    source: Iterable[Block], patience: float | None, depth: int = DEPTH
) -> Generator[Block | None, None, None]:
    """Do the same, but yield None whenever nothing has come for `patience` seconds."""
    waiting: queue.Queue[Block | BaseException | None] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    # A daemon: a read from a silent pipe cannot be interrupted and must not hold up the process's exit.
    thread = threading.Thread(target=_fill, args=(source, waiting, stop), name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = waiting.get(timeout=patience)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(_PATIENCE_SECONDS)


def _fill(source: Iterable[Block], waiting: "queue.Queue[Block | BaseException | None]", stop: threading.Event) -> None:
    blocks: Iterator[Block] | None = None
    last: BaseException | None = None
    try:
        blocks = iter(source)
        for block in blocks:
            if not _put(waiting, block, stop):
                break
    except BaseException as error:
        last = error
    finally:
        # The files are closed by the thread that read them, before the consumer learns of the end.
        if isinstance(blocks, Generator):
            blocks.close()
        _put(waiting, last, stop)


def _put(
    waiting: "queue.Queue[Block | BaseException | None]",
    item: Block | BaseException | None,
    stop: threading.Event,
) -> bool:
    while not stop.is_set():
        try:
            waiting.put(item, timeout=_LOOK_UP_SECONDS)
        except queue.Full:
            continue
        return True
    return False
