"""The calls that an input can make. Later calls use the objects that earlier ones returned."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import sys
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import bytepool
from bytepool import blocking, decay, tracking
from bytepool._bytepool import Waiter
from fuzz.hostile import HostileError, Sly

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.world import World

T = TypeVar("T")
LOOP = asyncio.new_event_loop()
COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, pickle.dumps]
CALLED = {"__enter__", "__exit__", "__repr__", "__str__", "__hash__", "__eq__", "__sub__"}


def new_pool(world: World) -> Any:
    make, chosen = world.make, world.read.number(2)
    values: dict[str, Callable[[], Any]] = {
        "min_size": make.number if chosen & 2048 else lambda: 1 << world.read.below(8),
        "max_size": make.number,
        "max_buffers": make.number if chosen & 4096 else lambda: world.read.below(4),
        "name": lambda: make.text("a pool"),
        "track": lambda: make.text("off", "sampled", "all"),
        "max_idle_bytes": make.number,
        "max_bytes": make.number,
        "idle_timeout": make.seconds,
        "zero": lambda: make.text("never", "release", "allocate"),
        "poison": make.oddity if chosen & 16384 else lambda: True,
    }
    return bytepool.Pool(
        **{name: value() for i, (name, value) in enumerate(values.items()) if chosen >> i & 1}
    )


def null_pool(_: World) -> Any:
    return bytepool.Pool.null()


def lend(world: World) -> Any:
    return getattr(world.pool(), world.read.pick(["view", "allocate"]))(world.make.number())


def lend_small(world: World) -> Any:
    return getattr(world.pool(), world.read.pick(["view", "allocate"]))(world.make.size())


def allocator(world: World) -> Any:
    return world.pool().allocator()


def allocate(world: World) -> Any:
    """Allocate with a timeout. It is unlimited only for a pool without a budget."""
    lender = world.any_of([*world.pools, *world.things])
    timeout = world.make.seconds()
    if getattr(lender, "max_bytes", 0) is None and world.read.below(4) == 0:
        timeout = None
    if not isinstance(lender, (bytepool.Pool, bytepool.Allocator)):
        return None
    return lender.allocate(world.make.number(), timeout=timeout)


def call(world: World) -> Any:
    """Call any method, or read any attribute, of any object, with any arguments."""
    thing = world.any_of([*world.things, *world.pools])
    names = [n for n in dir(type(thing)) if not n.startswith("_") or n in CALLED]
    name = world.read.pick(names)
    if not type(thing).__module__.startswith("bytepool") or name == "holders":
        return None
    if not callable(attribute := getattr(thing, name)):
        return attribute
    if world.read.below(2):
        return attribute(world.make.number())
    return attribute(*(world.make.anything() for _ in range(world.read.below(5))))


def held(world: World, kind: type[T]) -> T:
    """Return a kept object of this kind, or raise if there is none."""
    kept = [thing for thing in world.things if isinstance(thing, kind)]
    if not kept:
        raise HostileError
    return world.read.pick(kept)


def bytes_of(world: World) -> Any:
    return held(world, bytepool.Allocator).bytes()


def release(world: World) -> Any:
    """Release a handle that may have live views."""
    held(world, bytepool.Allocator).release()


def trim(world: World) -> Any:
    return world.pool().trim(world.make.number())


def decay_now(world: World) -> Any:
    return world.pool().decay()


def take(world: World) -> Any:
    return held(world, Waiter).take()


def queued_waiter(world: World) -> Any:
    pool = world.pool() if world.read.below(8) else world.make.anything()
    return Waiter(pool, world.make.number(), Sly(world.make))


def wait_async(world: World) -> Any:
    """Run the first step of a task that waits for the budget."""
    steps = world.pool().allocate_async(world.make.number())
    asyncio._set_running_loop(LOOP)  # nothing here runs the loop itself
    try:
        steps.send(None)
    except StopIteration as done:
        return done.value
    finally:
        asyncio._set_running_loop(None)
        steps.close()
    return None


def part_of_view(world: World) -> Any:
    view = world.view()
    part = view[world.read.number() : world.read.number(2)]
    return part.cast(world.read.pick("Bbc")) if world.read.below(4) == 0 else part


def export(world: World) -> Any:
    """Make a view of a view or of its exporter, as a library does."""
    view = world.view()
    made = world.read.below(4)
    if made == 0:
        return view.toreadonly()
    if made == 1 and sys.version_info >= (3, 12):
        return view.obj.__buffer__(world.read.number(2))
    return memoryview(view.obj)


def write(world: World) -> Any:
    if world.views:
        world.read.pick(world.views)[1].write(world.read.number())


def end_view(world: World) -> Any:
    world.view().release()


def copy_of(world: World) -> Any:
    thing = world.any_of([*world.pools, *world.things, world.view()])
    if not isinstance(thing, Sly):
        COPIES[world.read.below(len(COPIES))](thing)


def set_attribute(world: World) -> Any:
    thing = world.any_of([*world.pools, *world.things])
    value = world.make.text("off", "sampled", "all")
    try:
        if isinstance(thing, (bytepool.Pool, bytepool.Allocator)):
            setattr(thing, world.read.pick(["track", "track", "name", "size", "new"]), value)
    except AttributeError:
        pass


def drop(world: World) -> Any:
    world.drop()


def garbage(world: World) -> Any:
    """Create a cycle that holds a view and runs code when it is collected."""

    class Garbage:
        def __del__(garbage) -> None:  # noqa: N805
            world.make.act()

    garbage: Any = Garbage()
    garbage.held = [garbage, world.pool().view(world.make.size())]


def watch(world: World) -> Any:
    """Run code when a view dies. The weak reference must be kept for its callback to run."""
    return weakref.ref(world.view(), lambda _: world.make.act())


def receive(world: World) -> Any:
    socket: Any = Socket(world)
    return blocking.recv_exactly(socket, world.make.number(), world.pool())


def read_file(world: World) -> Any:
    paths = [__file__, "/dev/null", "/proc/self/stat", "/", Sly(world.make), 1.5]
    path: Any = world.read.pick(paths)
    return blocking.read_file(path, world.pool())


def decay_in_thread(world: World) -> Any:
    if world.read.below(8) == 0:  # starting a thread is slow
        with decay.in_thread(world.pool()):
            world.make.act()


def track(world: World) -> Any:
    """List tracked buffers, and search for their holders once per input, as it is slow."""
    for tracked in [*tracking.tracked(), *world.pool().tracked()][:3]:
        assert tracked.age >= 0
        repr((tracked, tracked.thread, tracked.origin))
        if not world.searched:
            world.searched = True
            tracked.holders()


def collector(world: World) -> Any:
    """Create a pool, which compares its callback with the hostile entries of gc.callbacks."""
    gc.callbacks.insert(0, Sly(world.make))
    try:
        return new_pool(world)
    finally:
        gc.callbacks[:] = [c for c in gc.callbacks if type(c) is not Sly]


class Socket:
    """A socket that returns arbitrary amounts within the rules of sockets."""

    def __init__(self, world: World) -> None:
        self.world = world

    def gettimeout(self) -> Any:
        return self.world.read.pick([None, 0, 0.001, 5.0])

    def settimeout(self, _seconds: Any) -> None:
        self.world.make.act()

    def recv_into(self, target: memoryview) -> int:
        self.world.keep(target)
        self.world.make.act()
        if not self.world.read:
            return 0
        return min(self.world.make.size(), len(target))


STEPS: list[Callable[[World], Any]] = [
    lend,
    lend_small,
    lend_small,
    bytes_of,
    bytes_of,
    release,
    release,
    trim,
    decay_now,
    take,
    allocator,
    allocate,
    call,
    call,
    new_pool,
    null_pool,
    queued_waiter,
    wait_async,
    part_of_view,
    export,
    write,
    end_view,
    copy_of,
    set_attribute,
    drop,
    drop,
    garbage,
    watch,
    receive,
    read_file,
    decay_in_thread,
    track,
    collector,
]
