import sys
from asyncio import AbstractEventLoop, BaseTransport, Future, IncompleteReadError
from collections.abc import AsyncIterator, Callable, Coroutine
from types import TracebackType
from typing import Any, ClassVar, Final, Literal, NoReturn, Self, SupportsIndex, final, overload

from typing_extensions import Buffer, disjoint_base

from bytepool.stats import Stats

__all__ = [
    "FREE_THREADED",
    "AllocationRecord",
    "Allocator",
    "BytesAlreadyAllocatedError",
    "BytesAlreadyReturnedError",
    "BytesOverwrittenError",
    "Lease",
    "MisuseError",
    "Pool",
    "PoolClosedError",
    "PoolExhaustedError",
    "Reader",
    "SharedPool",
    "Target",
    "Waiter",
    "__version__",
    "collect_garbage",
    "default_pool",
    "expect_large_blocks",
    "live_pools",
    "records",
    "settle_after_fork",
]

FREE_THREADED: Final[bool]
__version__: Final[str]

def collect_garbage(min_pause: float) -> bool:
    """Collects garbage, and returns whether this happened.

    Nothing happens if the last collection ended less than ``min_pause`` seconds ago, or 20 times its
    duration.
    """

def expect_large_blocks(n: int) -> None:
    """Lets glibc keep the memory of freed blocks of at least ``n`` bytes for the next ones.

    Without this, it returns each of them to the system, and every page of the next one is faulted in anew.
    Nothing happens below 128 KiB, after the first time, and with another C library.
    """

def live_pools() -> list[SharedPool]:
    """Return all pools of the process, oldest first.

    These include closed pools, and pools that exist only because buffers of theirs are in use.
    """

def settle_after_fork() -> None:
    """Adapt all pools to this process, a forked child.

    Requests that the parent queued leave the queue. Buffers that the parent had in use no longer count
    against ``max_bytes``: the threads that would return them may not exist here.
    """

def records() -> dict[AllocationRecord, None]:
    """Return the dict whose keys are the records of all tracked buffers in use, oldest first."""

def default_pool() -> Pool:
    """Return the process's own pool, which is used wherever ``pool=`` is not given.

    The first call creates it as ``Pool(name="default")``. Every caller and every thread gets the same pool.
    Its ``stats()``, ``trim()``, ``track`` and ``tracked()`` work as for any pool. Closing it closes it for
    all its users. If you need other parameters, create a pool of your own and pass it as ``pool=``.
    """

class MisuseError(RuntimeError):
    """An allocator or a pool was used in a state that does not allow it.

    Nothing is damaged and every object stays usable, but the calling code has a bug.
    """

class BytesAlreadyAllocatedError(MisuseError):
    """``allocate()`` was called on an allocator that already holds bytes."""

class BytesAlreadyReturnedError(MisuseError):
    """``release()`` or ``bytes()`` was called on an allocator that holds no bytes."""

class BytesOverwrittenError(MisuseError):
    """An idle buffer was written to, through an address that was kept after its return.

    Only a pool with ``poison=True`` raises this, when it is about to lend the buffer again.
    """

class PoolClosedError(MisuseError):
    """A closed pool was asked for bytes.

    Buffers in use stay valid. Their memory is freed when they are returned.
    """

class PoolExhaustedError(MemoryError):
    """The pool's budget (``max_bytes``) is used up, or other requests already wait for it.

    Release buffers and try again, or wait: ``allocate(n, timeout=...)``,
    ``allocate_async(n)``.
    """

@final
class Pool:
    """A pool of reusable byte buffers in size classes.

    Args:
        min_size: the smallest size class in bytes, rounded up to a power of two. A smaller request gets a
            buffer of this class, and a view of exactly the bytes it asked for. Each doubling has two classes.
        max_size: the largest pooled size in bytes. A larger request is *transient*: it is served with exactly
            as many bytes, counted, and freed when it is returned. Below 4096, give a ``min_size`` too.
        max_buffers: how many idle buffers each size class keeps. 0 keeps none.
        name: the pool's name in ``repr``, stats and metrics.
        track: which buffers are recorded: ``"off"``, ``"sampled"`` (one in 128) or ``"all"``. ``tracked()``
            lists the records of the buffers in use. A recorded handle that is dropped without ``release()``
            gives a ResourceWarning. None means the value of the environment variable ``BYTEPOOL_TRACK``, or
            ``"off"``.
        max_idle_bytes: how many idle bytes the whole pool keeps. 0 keeps none. None means 64 MiB, or four times
            ``max_size`` if that is more, but at most half of the memory limit of a container (its cgroup). A
            full pool evicts the buffers that were not used since the last eviction.
        max_bytes: the budget: how many bytes may be in use and idle together, transient ones included. None
            means no limit. Each buffer counts with the capacity of its size class. No class is larger than
            the budget.
        idle_timeout: idle memory that was not needed for this many seconds is freed, at the latest after twice
            that time; see ``decay()``. None keeps idle memory.
        zero: when reused memory is zeroed. ``"never"``: a buffer shows the bytes of its previous user.
            ``"release"``: bytes are zeroed when they are returned, so idle memory holds no old bytes.
            ``"allocate"``: the requested bytes are zeroed when they are allocated. Other threads run while
            64 KiB or more are zeroed.
        poison: for debugging. Returned memory is filled with the byte 0xDB. If it has changed when it is
            allocated again, the allocation raises BytesOverwrittenError.

    Raises ValueError if a number is negative, ``min_size > max_size``, ``max_size`` is 2**40 or more,
    ``zero`` or ``track`` is not one of its three values, or the environment variable
    ``BYTEPOOL`` is neither empty nor ``null``. Raises TypeError for a number that is not an integer,
    OverflowError for one above ``sys.maxsize``, and MemoryError if both ``max_buffers`` and
    ``max_idle_bytes`` are too large to reserve space for.

    With ``BYTEPOOL=null`` in the environment every ``Pool(...)`` is ``Pool.null(...)``. That rules the pool
    out as the cause of a memory bug, without a change to the code.

    Any thread may call any method. A buffer is returned when nothing refers to it any more, and only then,
    so memory never changes under a view. (After a view's own ``release()`` or ``with`` block, the view
    refers to nothing.) Fresh memory is zeroed. When the pool is closed or garbage-collected, its idle memory
    is freed, and buffers in use stay valid. A ``with`` block closes the pool at its end.
    """

    def __new__(
        cls,
        min_size: SupportsIndex = 4096,
        max_size: SupportsIndex = 16777216,
        max_buffers: SupportsIndex = 16,
        *,
        name: str | None = None,
        track: Literal["off", "sampled", "all"] | None = None,
        max_idle_bytes: SupportsIndex | None = None,
        max_bytes: SupportsIndex | None = None,
        idle_timeout: float | None = 30.0,
        zero: Literal["never", "release", "allocate"] = "never",
        poison: bool = False,
    ) -> Self: ...
    @staticmethod
    def null(
        min_size: SupportsIndex = 4096,
        max_size: SupportsIndex = 16777216,
        max_buffers: SupportsIndex = 16,
        *,
        name: str | None = None,
        track: Literal["off", "sampled", "all"] | None = None,
        max_idle_bytes: SupportsIndex | None = None,
        max_bytes: SupportsIndex | None = None,
        idle_timeout: float | None = 30.0,
        zero: Literal["never", "release", "allocate"] = "never",
        poison: bool = False,
    ) -> Pool:
        """Return a pool that pools nothing, with exactly the same rules and errors.

        It allocates memory for every request, and frees it when it is returned. Use it in place of a pool
        that you suspect to cause a bug: if the bug stays, the pool is not the cause. It takes the arguments of
        ``Pool(...)``, and its properties have their values, so code that compares a size with ``max_size``,
        or needs an ``idle_timeout``, works as with the pool. The budget and ``track`` hold as well. Every
        request counts as transient, and its memory is always zeroed.

        Raises what ``Pool(...)`` raises.
        """
    def allocator(self) -> Allocator:
        """Return a new Allocator that holds no bytes yet."""
    def allocate(self, n: SupportsIndex, *, timeout: float | None = 0.0) -> Allocator:
        """Return a new Allocator that holds ``n`` bytes.

        ``with pool.allocate(n) as alloc:`` releases them at the end of the block. ``n`` may be 0.

        With a budget (``max_bytes``) that is used up, ``timeout`` is how many seconds to wait for buffers
        to be returned. 0.0 does not wait, None waits without limit. Waiters are served in their order, so
        small requests do not starve a large one. After the timeout this raises PoolExhaustedError. It
        raises immediately if ``n`` is more than the whole budget.
        A thread that waits blocks. In a greenlet of gevent, the other greenlets of the thread run meanwhile
        (eventlet's do not).

        Raises TypeError if ``n`` is not an integer, ValueError if it is negative, OverflowError if it is
        above ``sys.maxsize``, MemoryError if the system does not have the memory, and PoolClosedError if
        the pool is closed. An error leaves the pool unchanged.
        """
    def allocate_async(self, n: SupportsIndex) -> Coroutine[Any, Any, Allocator]:
        """Wait for a new Allocator that holds ``n`` bytes, while the event loop of asyncio runs on.

        It waits for the budget without limit; use ``asyncio.timeout(seconds)`` around it. A task that is
        cancelled meanwhile leaves the queue, and no bytes are lost.

        Raises what ``allocate()`` raises, but PoolExhaustedError only if ``n`` is more than the whole
        budget. Without a running event loop of asyncio (under trio, for example) it raises RuntimeError.
        """
    def view(self, n: SupportsIndex, *, timeout: float | None = 0.0) -> memoryview:
        """Return a writable memoryview of exactly ``n`` pooled bytes, for use in place of ``bytearray(n)``.

        There is no handle and nothing to release: the bytes are returned when the view, and everything
        made from it, is gone. Unlike a bytearray, the view may show old bytes, has a fixed size and none of the
        methods for text, and ``in`` does not search. The guide on views lists all differences.

        ``timeout`` and the errors are those of ``allocate()``.
        """
    def stats(self) -> Stats:
        """Return a frozen ``bytepool.Stats`` of what the pool has done so far.

        Every counter is exact. While other threads use the pool, the snapshot may lie between two of their
        calls.
        """
    def trim(self, keep_bytes: SupportsIndex = 0) -> int:
        """Free idle memory now, and return how many bytes it freed.

        Args:
            keep_bytes: how many idle bytes may stay. Buffers that were not used since the last eviction are
                freed first, the largest of them first.

        Buffers of 64 KiB and more go back to the system. Smaller ones go back to the allocator of the C
        library, which may keep them. Buffers in use are not touched.

        Raises TypeError, ValueError or OverflowError if ``keep_bytes`` is not a size.
        """
    def decay(self) -> int:
        """Free idle memory that was not needed for ``idle_timeout`` seconds, and return how many bytes.

        It works once per ``idle_timeout`` and otherwise returns 0, so you may call it as often as you like.
        Python's garbage collector calls it when it runs, and so does every 1,024th return of a buffer to a
        size class. ``bytepool.decay`` has timers for processes that do neither.
        """
    def close(self) -> None:
        """Close the pool: free its idle memory, and lend and keep no buffers from now on.

        Buffers in use stay valid, and are freed when they are returned. Waiters and new requests get
        PoolClosedError. A pool may be closed more than once.
        """
    def __enter__(self) -> Self:
        """Return the pool itself."""
    def __exit__(
        self,
        _exc_type: type[BaseException] | None,
        _exc_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
    def tracked(self) -> list[AllocationRecord]:
        """Return the records of the tracked buffers in use, oldest first.

        Each is a ``bytepool.tracking.AllocationRecord``. Only buffers that were allocated while ``track``
        was on have one; ``stats().outstanding`` counts all buffers in use.
        """
    @property
    def track(self) -> Literal["off", "sampled", "all"]:
        """Which buffers are tracked: ``"off"``, ``"sampled"`` (one in 128) or ``"all"``.

        It can be set, and holds for the buffers that are allocated from then on.
        """
    @track.setter
    def track(self, value: Literal["off", "sampled", "all"]) -> None: ...
    @property
    def name(self) -> str | None:
        """The pool's name; None if it has none."""
    @property
    def min_size(self) -> int:
        """The configured smallest size class in bytes."""
    @property
    def max_size(self) -> int:
        """The largest pooled size in bytes. Larger requests are transient."""
    @property
    def max_buffers(self) -> int:
        """How many idle buffers each size class keeps."""
    @property
    def max_idle_bytes(self) -> int:
        """How many idle bytes the whole pool keeps."""
    @property
    def max_bytes(self) -> int | None:
        """The budget: how many bytes may be in use and idle together. None means no limit."""
    @property
    def idle_timeout(self) -> float | None:
        """After how many seconds unneeded idle memory is freed. None means never."""
    @property
    def zero(self) -> Literal["never", "release", "allocate"]:
        """When reused memory is zeroed: ``"never"``, ``"release"`` or ``"allocate"``."""
    @property
    def poison(self) -> bool:
        """Whether returned memory is filled with a pattern, which is checked when it is allocated again."""
    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a pool cannot be pickled or copied."""

@final
class Allocator:
    """A handle on bytes of a pool, from ``pool.allocator()`` or ``pool.allocate(n)``.

    It holds one buffer or none, and can be reused any number of times: ``allocate``, ``release``,
    ``allocate``... Pass it along with the data in its buffer, and let the last user release it. Releasing is
    optional: if the handle is dropped, its bytes are returned as soon as no view of them is left.

    As a context manager it releases at the end of the block, if it still holds bytes then.

    Threads may share it. Each call is atomic: of two racing ``release()`` calls, one succeeds and the other
    raises. It cannot be copied or pickled.
    """

    def allocate(self, n: SupportsIndex, *, timeout: float | None = 0.0) -> memoryview:
        """Take ``n`` bytes from the pool and return a writable memoryview of exactly these bytes.

        The allocator holds the bytes until ``release()``; ``bytes()`` returns more views of them. ``n`` may
        be 0. With a budget, ``timeout`` works as for ``Pool.allocate()``.

        Raises BytesAlreadyAllocatedError if the allocator already holds bytes, and what ``Pool.allocate()``
        raises. An error leaves the allocator and the pool unchanged.
        """
    def bytes(self) -> memoryview:
        """Return a new writable memoryview of the bytes held: the same memory, of the size first asked for.

        Raises BytesAlreadyReturnedError if the allocator holds no bytes.
        """
    def release(self) -> None:
        """Release the bytes. The allocator can be used again.

        If nothing else holds a view of the bytes, they are returned to the pool before this returns.
        Otherwise the return is *deferred* until the last holder drops its view, and until then the bytes
        belong to the holders alone. Using a view after this is never an error.

        Raises BytesAlreadyReturnedError if the allocator holds no bytes.
        """
    @property
    def size(self) -> int:
        """How many bytes were asked for; 0 if the allocator holds none."""
    def __enter__(self) -> Self:
        """Return the allocator itself."""
    def __exit__(
        self,
        _exc_type: type[BaseException] | None,
        _exc_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Release the bytes held, if there are any."""
    def __reduce__(self) -> NoReturn:
        """Raise TypeError: an allocator cannot be pickled or copied."""

@final
class Lease:
    """What owns the memory behind the views of a pool.

    Every memoryview, slice, array or queued write made from a pooled view refers to a lease (``view.obj``).
    When the last such reference is gone, the bytes are returned to the pool. A lease only exports its bytes:
    it has no methods, and cannot be created, copied or pickled.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    if sys.version_info >= (3, 12):
        # Before, a buffer that a C type exports has no name in Python.
        def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class SharedPool:
    """What a ``Pool`` shares with the buffers that it lent: its buckets, its counters and its tracking.

    ``live_pools()`` lists these objects. They keep no pool open.
    """

    @property
    def outstanding(self) -> int:
        """How many buffers are in use, tracked or not."""
    def tracked(self) -> list[AllocationRecord]:
        """Return what ``Pool.tracked()`` returns."""
    @property
    def track(self) -> Literal["off", "sampled", "all"]:
        """Which buffers are tracked; see ``Pool.track``."""
    @track.setter
    def track(self, value: Literal["off", "sampled", "all"]) -> None: ...

@final
class AllocationRecord:
    """One tracked buffer: how large it is, which code allocated it, and what holds it.

    ``Pool.tracked()`` and ``bytepool.tracking.tracked()`` list the records of the buffers in use. A record
    stays valid when its buffer is returned. It equals only itself.
    """

    @property
    def size(self) -> int:
        """How many bytes were asked for."""
    @property
    def age(self) -> float:
        """Seconds since the buffer was allocated."""
    @property
    def released(self) -> bool:
        """Whether the handle was released while something else still holds the buffer."""
    @property
    def thread(self) -> str:
        """The name of the thread that allocated the buffer; its number, if that thread has ended."""
    @property
    def origin(self) -> list[str]:
        """The calls that allocated the buffer, innermost last: up to eight entries, formatted as in a traceback.

        Empty if the thread ran no Python code.
        """
    def holders(self) -> list[str]:
        """Describe each object and variable that holds a view of the buffer, as far as CPython can tell.

        This looks at all objects of the process, which takes a while. It does not find holders that the
        garbage collector does not know (some libraries do not register their references), objects that
        ``gc.freeze()`` has put aside, or, in a free-threaded Python, local variables of other threads.
        """
    @property
    def _report(self) -> object: ...

@final
class Waiter:
    """A queued request for ``n`` bytes of a pool's budget.

    ``wake()`` is called once, by any thread, when ``take()`` or ``view()`` can be called. At the end of the
    ``with`` block the waiter leaves the queue. Bytes that it was granted and did not take pass to the next
    waiter.
    """

    def __new__(cls, pool: Pool, n: SupportsIndex, wake: Callable[[], object]) -> Self: ...
    def take(self) -> Allocator:
        """Return an Allocator that holds the granted bytes.

        Raises PoolExhaustedError while nothing is granted, and PoolClosedError if the pool was closed or
        the bytes were already taken.
        """
    def view(self) -> memoryview:
        """Return the granted bytes as a memoryview, without a handle.

        Raises what ``take()`` raises.
        """
    @property
    def waits(self) -> bool:
        """Whether nothing was granted yet, and the pool is open."""
    def leave(self) -> None:
        """Leave the queue."""
    def __enter__(self) -> Self:
        """Return the waiter itself."""
    def __exit__(
        self,
        _exc_type: type[BaseException] | None,
        _exc_value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Leave the queue."""

@final
class Target:
    """Memory that a protocol has its transport fill, from the front to the back.

    ``Target(n)`` is memory for a ``bytes`` object of ``n`` bytes, which ``finish()`` returns.
    ``Target.over(buffer)`` is the memory of any writable, contiguous buffer. It keeps the buffer.
    """

    def __new__(cls, n: SupportsIndex) -> Self: ...
    @staticmethod
    def over(buffer: Buffer) -> Target:
        """Return a target in the memory of ``buffer``.

        Raises TypeError if the buffer is not writable and contiguous.
        """
    def rest(self) -> memoryview:
        """Return a writable memoryview of the bytes that are not filled yet."""
    def advance(self, n: int) -> bool:
        """Count ``n`` bytes at the start of ``rest()`` as filled, and return whether all bytes are.

        Raises ValueError if ``rest()`` is shorter.
        """
    def write(self, data: Buffer) -> int:
        """Copy the start of ``data`` to the start of ``rest()``, and return how many bytes fit."""
    def finish(self) -> bytes:
        """Return the filled bytes, and let go of the memory.

        They are not copied if this is memory for a ``bytes`` object, all of it is filled, and nothing holds a
        view of it. After this, all methods raise BufferError.
        """
    @property
    def filled(self) -> int:
        """How many bytes are filled; 0 after ``finish()``."""

# The native half of bytepool.streams.

@disjoint_base
class Reader:
    """The native half of ``bytepool.streams.StreamReader``."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self: ...
    def feed_data(self, data: Buffer) -> None:
        """Take data from the transport."""
    def feed_eof(self) -> None:
        """Note that nothing more will come."""
    def at_eof(self) -> bool:
        """Whether the stream is over, and all of it was read."""
    def readexactly(self, n: SupportsIndex) -> Coroutine[Any, Any, bytes]:
        """Read exactly ``n`` bytes, and return them as ``bytes``.

        Large reads are received straight into the object that is returned. Raises IncompleteReadError, which
        carries the received bytes, if the stream ends before; ValueError if ``n`` is negative. If this is cancelled,
        no byte is lost: the next read gets the received bytes.
        """
    def read(self, n: SupportsIndex = -1) -> Coroutine[Any, Any, bytes]:
        """Read the received bytes: at least one, and at most ``n`` of them.

        If ``n`` is negative, read all until the stream ends. Empty bytes mean that the stream is over.
        """
    def readuntil(
        self, separator: Buffer | tuple[Buffer, ...] = b"\n"
    ) -> Coroutine[Any, Any, bytes]:
        """Read up to and including ``separator``, and return it with the bytes before it.

        From CPython 3.13 on ``separator`` may be a tuple of separators, of which the one that ends first
        counts.

        Raises LimitOverrunError if the separator is not within the reader's ``limit`` in bytes, and leaves
        the bytes in the reader; IncompleteReadError, which carries the received bytes, if the stream ends
        before; ValueError if the separator is empty.
        """
    def readline(self) -> Coroutine[Any, Any, bytes]:
        """Read a line with its line feed, or the rest of the stream if it has no line feed.

        Raises ValueError if the line is longer than the reader's ``limit`` in bytes, and drops it.
        """
    def readinto(self, buffer: Buffer) -> Coroutine[Any, Any, int]:
        """Fill ``buffer`` completely, and return its size in bytes.

        ``buffer`` is anything writable and contiguous, of any shape and format. It must not be used while this
        waits.

        Raises IncompleteReadError if the stream ends before: the received bytes are in the buffer, and the error
        carries the first ``limit`` of them. Raises TypeError for a buffer that is read-only or not contiguous. If
        this is cancelled, no byte is lost: the next read gets the received bytes.
        """
    def readview(
        self, n: SupportsIndex, *, max_size: SupportsIndex | None = None
    ) -> Coroutine[Any, Any, memoryview]:
        """Return a memoryview of exactly ``n`` pooled bytes, filled from the stream.

        ``max_size`` is for lengths that a peer has sent: if ``n`` is above it, ValueError is raised before
        anything is allocated.

        If the pool has a budget (``max_bytes``) that is used up, this waits until ``n`` bytes are free. What
        the peer sends meanwhile is read ahead up to twice the reader's limit, and then held back.

        Raises IncompleteReadError, which carries the first ``limit`` received bytes, if the stream ends before;
        and the errors of ``Pool.allocate_async``. If this is cancelled, no byte is lost. The received bytes stay in
        the pool's memory until the next read: the same read goes on there.
        """
    @overload
    def frames(
        self,
        *,
        length_size: int = 4,
        byteorder: Literal["big", "little"] = "big",
        offset: int = 0,
        adjustment: int = 0,
        strip: int | None = None,
        max_size: int = 16777216,
        as_bytes: Literal[False] = False,
    ) -> AsyncIterator[memoryview]:
        """Iterate over length-prefixed messages: ``async for message in reader.frames():``.

        A message stands in the stream as ``offset`` bytes of a header, then its length in ``length_size``
        bytes (1 to 8, ``byteorder`` is ``"big"`` or ``"little"``), then the rest. ``adjustment`` is added to
        the length that the peer has sent, to make it the number of bytes behind the length field. The first
        ``strip`` bytes are left out of what is returned; None leaves out all up to the end of the length
        field.

        Each message is a memoryview of pooled bytes, as from ``readview``; with ``as_bytes=True`` it is
        ``bytes``. Let go of a message before the next one is read (``del message``) if the pool has a budget:
        else the reader waits for memory that its own loop holds.

        The iteration ends where the stream ends between two messages. In the middle of one IncompleteReadError
        is raised. With ``as_bytes=True`` it carries the received bytes, otherwise the first ``limit`` of them.
        ValueError is raised, before anything is allocated, for a message above ``max_size`` bytes, or for one that
        would end before its length field does; and by this call for parameters that make no sense.
        """
    @overload
    def frames(
        self,
        *,
        length_size: int = 4,
        byteorder: Literal["big", "little"] = "big",
        offset: int = 0,
        adjustment: int = 0,
        strip: int | None = None,
        max_size: int = 16777216,
        as_bytes: Literal[True],
    ) -> AsyncIterator[bytes]:
        """Iterate over length-prefixed messages: ``async for message in reader.frames():``.

        A message stands in the stream as ``offset`` bytes of a header, then its length in ``length_size``
        bytes (1 to 8, ``byteorder`` is ``"big"`` or ``"little"``), then the rest. ``adjustment`` is added to
        the length that the peer has sent, to make it the number of bytes behind the length field. The first
        ``strip`` bytes are left out of what is returned; None leaves out all up to the end of the length
        field.

        Each message is a memoryview of pooled bytes, as from ``readview``; with ``as_bytes=True`` it is
        ``bytes``. Let go of a message before the next one is read (``del message``) if the pool has a budget:
        else the reader waits for memory that its own loop holds.

        The iteration ends where the stream ends between two messages. In the middle of one IncompleteReadError
        is raised. With ``as_bytes=True`` it carries the received bytes, otherwise the first ``limit`` of them.
        ValueError is raised, before anything is allocated, for a message above ``max_size`` bytes, or for one that
        would end before its length field does; and by this call for parameters that make no sense.
        """
    _in_place: int
    def _begin(
        self, limit: int, event_loop: AbstractEventLoop, pool: Pool | None, is_watched: bool
    ) -> None: ...
    def _get_buffer(self, least: int = 0) -> memoryview: ...
    def _buffer_updated(self, n: int) -> None: ...
    def _read_on(self) -> None: ...
    def _expect(self, keeps_receiving: bool, floods: bool) -> None: ...
    def _wait_for_data(self, _func_name: str) -> Coroutine[Any, Any, None]: ...
    def _wakeup_waiter(self) -> None: ...
    def _incomplete(self, expected: int) -> IncompleteReadError: ...
    _limit: int
    _eof: bool
    _paused: bool
    _ahead: int
    _loop: AbstractEventLoop
    _waiter: Future[None] | None
    _transport: BaseTransport | None
    _exception: Exception | None
    @property
    def _pool(self) -> Pool | None: ...
    @property
    def _unread(self) -> int: ...
    @property
    def _progress(self) -> tuple[int, int] | None: ...
    @property
    def _last_view(self) -> memoryview | None: ...
    @property
    def _has_memory(self) -> bool: ...
    @property
    def _buffer(self) -> bytearray: ...
