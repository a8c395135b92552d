"""A pretend GPU that forgives nothing, behind the names of `pycuda.driver`.

Streams are queues that run as late as CUDA may run them: when somebody waits. What a copy or a stage would
have written is not there before. Beside that, each queued operation knows what comes before it (a vector
clock over the streams), so that two that touch the same memory with nothing to order them are found at
once, whatever the order in which they would happen to run.

What pycuda forgives in silence is a mistake here: memory freed on a thread without the context (it leaks),
memory left to the garbage collector, a second context. Each mistake is kept in `mistakes`, also where the
code under test swallows the exception, or where none can be raised.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.edge.tensorrt.fake_driver import driver_of

__all__ = ["POISON", "Block", "Mistake", "PretendGpu", "StreamQueue"]

POISON = 0xA5
"""What memory holds that nobody has written."""
_ALIGNED = 512

Bytes = npt.NDArray[np.uint8]


class Mistake(AssertionError):
    """The code under test did what CUDA or TensorRT forbid, or what they forgive and it should not do."""


@dataclass(eq=False)
class Operation:
    """One thing on a stream. `clock` says up to which operation of each stream all is done before it."""

    label: str
    stream: StreamQueue
    number: int
    clock: dict[int, int]
    action: Callable[[], None]
    done: bool = False

    def comes_before(self, other: Operation) -> bool:
        return other.clock.get(self.stream.handle, -1) >= self.number


@dataclass(eq=False)
class StreamQueue:
    """What is queued on a stream; `clock` is what its next operation comes after."""

    handle: int
    clock: dict[int, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)


@dataclass(eq=False)
class Block:
    """Memory of the device or, page-locked, of the host; `data` is what it holds now."""

    label: str
    data: Bytes
    freed: bool = False
    writer: Operation | None = None
    readers: list[Operation] = field(default_factory=list)

    def spoil(self) -> None:
        """Make it hold what nobody has written."""
        self.data[:] = POISON


class PretendGpu:
    """One GPU, its driver (`driver`, instead of `pycuda.driver`), and the books of what is on it.

    `live` counts what is there by kind, `made` what ever was. `ran` are the runs of engines in the order of
    queueing: their stream and the names of their outputs; `copied` the copies.

    What a test may set: `fail` (a message) breaks the context from the next operation that runs, for good;
    `full_at` is the number of the allocation (of anything, from 0) that finds the memory full;
    `refuses_runs` and `refuses_contexts` make TensorRT say no; `unusable` is a machine without CUDA.
    """

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.live: Counter[str] = Counter()
        self.made: Counter[str] = Counter()
        self.blocks: dict[int, Block] = {}
        self.streams: dict[int, StreamQueue] = {}
        self.fail: str | None = None
        self.broken: str | None = None
        self.full_at: int | None = None
        self.refuses_runs = False
        self.refuses_contexts = False
        self.unusable = False
        self.copied: list[str] = []
        self.ran: list[tuple[int, frozenset[str]]] = []
        self._host_clock: dict[int, int] = {}
        self._stacks: dict[int, list[object]] = {}
        self._handles = itertools.count(1)
        self._addresses = itertools.count(_ALIGNED * 1000, 1 << 28)
        self.driver = driver_of(self)

    # What the fakes of pycuda and TensorRT ask for.

    def mistake(self, what: str) -> Mistake:
        self.mistakes.append(what)
        return Mistake(what)

    def check(self, call: str) -> None:
        """As every call of the driver does: a context must be there, and whole."""
        if self.broken is not None:
            raise self.driver.LogicError(f"{call} failed: {self.broken}")
        if not self.here():
            raise self.mistake(f"{call} on thread {threading.current_thread().name}, which has no context")

    def here(self) -> bool:
        """Whether this thread has a context."""
        return bool(self._stacks.get(threading.get_ident()))

    def new_handle(self, kind: str) -> int:
        self.live[kind] += 1
        self.made[kind] += 1
        return next(self._handles)

    def allocate(self, call: str) -> None:
        """As every call of the driver that makes something does."""
        self.check(call)
        self.made["allocation"] += 1
        if self.full_at is not None and self.made["allocation"] > self.full_at:
            raise self.driver.MemoryError(f"{call} failed: out of memory")

    def gone(self, kind: str) -> None:
        """Something of this kind is freed."""
        self.live[kind] -= 1
        if self.broken is not None:
            self.mistakes.append(f"{kind} is freed in a broken context")
        elif not self.here():
            name = threading.current_thread().name
            self.mistakes.append(f"{kind} is freed on thread {name}: without the context it leaks")

    def new_block(self, kind: str, size_bytes: int) -> tuple[int, Block]:
        self.new_handle(kind)
        address = next(self._addresses)
        block = Block(f"{kind} {address:#x}", np.full(size_bytes, POISON, np.uint8))
        self.blocks[address] = block
        return address, block

    def free_block(self, kind: str, address: int, *, collected: bool = False) -> None:
        block = self.blocks[address]
        if block.freed:
            raise self.mistake(f"{block.label} is freed twice")
        self.gone(kind)
        if collected:
            self.mistakes.append(f"{block.label} was left to the garbage collector")
        block.freed = True
        block.spoil()
        touched = [*block.readers, *([block.writer] if block.writer else [])]
        if self.broken is None and any(not operation.done for operation in touched):
            wrong = self.mistake(f"{block.label} is freed while {touched[-1].label} is queued on it")
            if not collected:
                raise wrong

    def block_at(self, address: int, size_bytes: int, use: str) -> Block:
        block = self.blocks.get(address)
        if block is None:
            raise self.mistake(f"{use}: nothing lies at {address:#x}")
        if block.freed:
            raise self.mistake(f"{use}: {block.label} has been freed")
        if block.data.nbytes < size_bytes:
            raise self.mistake(f"{use}: {size_bytes} bytes in {block.label} of {block.data.nbytes}")
        return block

    def new_stream(self, handle: int) -> None:
        self.streams[handle] = StreamQueue(handle)

    def host_block_of(self, array: npt.NDArray[np.generic], use: str) -> Block:
        address = getattr(array.base, "address", None)
        if not isinstance(address, int):
            raise self.mistake(
                f"{use}: the host's memory is not page-locked, so the copy is not asynchronous"
            )
        return self.block_at(address, array.nbytes, use)

    def queue_at(self, handle: int) -> StreamQueue:
        if handle not in self.streams:
            raise self.mistake(f"there is no stream {handle}; 0 is the default one, which stops all others")
        return self.streams[handle]

    def enqueue(
        self,
        label: str,
        queue: StreamQueue,
        reads: Sequence[Block],
        writes: Sequence[Block],
        action: Callable[[], None],
    ) -> None:
        number = len(queue.operations)
        clock = {**_later(queue.clock, self._host_clock), queue.handle: number}
        operation = Operation(label, queue, number, clock, action)
        for block in reads:
            if block.writer is None and block.label.startswith("device"):
                raise self.mistake(f"{label} reads {block.label}, which nobody has written")
            self._ordered(operation, block, [block.writer])
            block.readers.append(operation)
        for block in writes:
            before = [block.writer, *(reader for reader in block.readers if reader is not operation)]
            self._ordered(operation, block, before)
            block.writer, block.readers = operation, []
        queue.operations.append(operation)
        queue.clock = clock

    def wait(self, queue: StreamQueue, clock: dict[int, int]) -> None:
        queue.clock = _later(queue.clock, clock)

    def run_until(self, clock: dict[int, int]) -> None:
        """Run, as the device would, what a wait for all of `clock` needs, and nothing else."""
        for handle, number in clock.items():
            for operation in self.streams[handle].operations[: number + 1]:
                if operation.done:
                    continue
                operation.done = True
                self.run_until({k: v for k, v in operation.clock.items() if k != handle})
                if self.fail is not None:
                    self.broken = self.fail
                if self.broken is None:
                    operation.action()
        if self.broken is not None:
            raise self.driver.LogicError(f"cuStreamSynchronize failed: {self.broken}")
        self._host_clock = _later(self._host_clock, clock)

    def stack(self) -> list[object]:
        return self._stacks.setdefault(threading.get_ident(), [])

    def deepest_stack(self) -> int:
        return max(map(len, self._stacks.values()), default=0)

    def _ordered(self, later: Operation, block: Block, before: Sequence[Operation | None]) -> None:
        for earlier in before:
            if earlier is not None and not earlier.comes_before(later):
                raise self.mistake(
                    f"{later.label} (stream {later.stream.handle}) and {earlier.label} (stream "
                    f"{earlier.stream.handle}) both use {block.label}, and nothing puts them in order"
                )


def _later(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {handle: max(one.get(handle, -1), other.get(handle, -1)) for handle in {*one, *other}}
