"""Run the user's program once, as a child process, and measure what it costs.

The child has the streams, the signals and the process group of a program that was started directly.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bytepool.advise import processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# A signal that this process receives while the program runs is for the program.
FORWARDED = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
FROM_TERMINAL = 0x80  # si_code of a signal that the kernel sends: the program has received it too
TICK = 0.02  # seconds between two looks at the program
PATIENCE = 10.0  # seconds until a program that was asked to end is asked more firmly


@dataclass(frozen=True)
class Program:
    """The command to run, and for how long."""

    arguments: Sequence[str]
    """The arguments after the interpreter's options: a script or ``-m module``, and its own."""
    options: Sequence[str] = ()
    """Options of the interpreter, such as ``-X dev``."""
    seconds: float | None = None
    """How long a server runs, from the moment that it listens."""
    load: str | None = None
    """A command to start once the server listens. The run ends with it."""

    @property
    def serves(self) -> bool:
        """Whether it is a server, which runs until it is stopped."""
        return self.load is not None or self.seconds is not None

    @property
    def command(self) -> list[str]:
        """The complete command."""
        return [sys.executable, *self.options, *self.arguments]


@dataclass
class Run:
    """The cost of one run. It includes the processes that the program waited for."""

    seconds: float
    """Wall-clock time."""
    user: float
    """CPU seconds in user mode."""
    system: float
    """CPU seconds in the kernel."""
    faults: int
    """Page faults that needed no disk."""
    peak_rss: int
    """The most memory of the largest process, in bytes."""
    status: int
    """The exit status; ``-n`` after signal n, as in ``subprocess``."""
    stopped: bool
    """Whether it was ended by ``--seconds``, by the end of the load, or by Ctrl-C as a server."""
    interrupted: bool
    """Whether Ctrl-C or another forwarded signal arrived."""
    listened: float | None
    """Seconds until it listened on a socket, if it did."""
    load_status: int | None
    """The exit status of the load, if it ended."""
    children: tuple[int, ...] = ()
    """The process ids of its descendants, as far as they lived long enough to be seen."""

    @property
    def cpu(self) -> float:
        """CPU seconds, in user mode and in the kernel."""
        return self.user + self.system

    @property
    def excess_faults(self) -> int:
        """Page faults beyond the first touch of each page of the peak."""
        return max(self.faults - self.peak_rss // 4096, 0)

    @property
    def failed(self) -> bool:
        """Whether the program failed by itself."""
        return self.status != 0 and not self.stopped


@dataclass
class _Watched:
    """The measurements of a running program."""

    pid: int
    begin: float
    peak_rss: int = 0
    listened: float | None = None
    stopped: bool = False
    interrupted: bool = False
    children: set[int] = field(default_factory=set)
    load: int | None = None
    load_status: int | None = None
    next_step: float = float("inf")
    steps: list[signal.Signals] = field(
        default_factory=lambda: [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    )

    def stop(self) -> None:
        """Ask the program to end, more firmly each time."""
        step = self.steps.pop() if self.steps else signal.SIGKILL
        if step == signal.SIGKILL:
            for child in processes.descendants(self.pid):
                processes.send(child, step)
        processes.send(self.pid, step)
        self.stopped = True
        self.next_step = time.monotonic() + PATIENCE


def run(
    program: Program, environment: Mapping[str, str], streams: Sequence[int | None] = ()
) -> Run:
    """Run the program until it ends or is stopped.

    ``streams`` are the file descriptors for its stdin, stdout and stderr; None leaves its own.
    """
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    try:
        watched = _Watched(
            _spawn(program.command, environment, streams, old_mask, program.serves),
            time.monotonic(),
        )
        ended = None
        while ended is None:
            received = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, TICK)
            if received and received.si_signo != signal.SIGCHLD:
                _forward(watched, received)
            # Look before the program is gone.
            watched.children.update(processes.descendants(watched.pid))
            for pid in (watched.pid, *watched.children):
                watched.peak_rss = max(watched.peak_rss, processes.peak_rss(pid))
            ended = _ended(watched.pid)
            if ended is None:
                _direct(watched, program, old_mask)
        seconds = time.monotonic() - watched.begin
        if watched.load is not None and watched.load_status is None:
            processes.send(watched.load, signal.SIGTERM)
            os.waitpid(watched.load, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
    status, usage = ended
    # The kernel's peak includes this process, of which the child is a copy before it starts.
    peak, own_peak = usage.ru_maxrss * 1024, processes.peak_rss(os.getpid())
    return Run(
        seconds=seconds,
        user=usage.ru_utime,
        system=usage.ru_stime,
        faults=usage.ru_minflt,
        peak_rss=peak if peak > own_peak else watched.peak_rss or peak,
        status=os.waitstatus_to_exitcode(status),
        stopped=watched.stopped,
        interrupted=watched.interrupted,
        listened=watched.listened,
        load_status=watched.load_status,
        children=tuple(sorted(watched.children)),
    )


def _spawn(
    command: Sequence[str],
    environment: Mapping[str, str],
    streams: Sequence[int | None],
    mask: set[int | signal.Signals],
    stopped_by_sigint: bool = False,
) -> int:
    """Start a command with the given streams and signal mask, and return its process id."""
    # Python ignores these, and a program that it starts shall not.
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]
    if stopped_by_sigint:
        defaults.append(signal.SIGINT)  # a shell script lets its background jobs ignore it
    actions = [
        (os.POSIX_SPAWN_DUP2, fd, target)
        for target, fd in enumerate(streams)
        if fd is not None and fd != target
    ]
    return os.posix_spawnp(
        command[0],
        list(command),
        dict(environment),
        file_actions=actions,
        setsigmask=mask,
        setsigdef=defaults,
    )


def _forward(watched: _Watched, received: signal.struct_siginfo) -> None:
    watched.interrupted = True
    if received.si_code != FROM_TERMINAL:
        processes.send(watched.pid, signal.Signals(received.si_signo))
    # Ctrl-C is how a server ends.
    if received.si_signo == signal.SIGINT and processes.listens(watched.pid):
        watched.stopped = True


def _ended(pid: int) -> tuple[int, processes.Usage] | None:
    """Return the status and the resources of the program, if it has ended."""
    found, status, usage = os.wait4(pid, os.WNOHANG)
    return (status, usage) if found else None


def _direct(watched: _Watched, program: Program, mask: set[int | signal.Signals]) -> None:
    """Start the load when the program listens, and stop the program when its time is over."""
    now = time.monotonic()
    if program.serves and watched.listened is None and processes.listens(watched.pid):
        watched.listened = now - watched.begin
        if program.load is not None:
            null = os.open(os.devnull, os.O_RDWR)
            # The load has the environment of this process: remedies are for the program.
            watched.load = _spawn(shlex.split(program.load), os.environ, (null, null, None), mask)
            os.close(null)
    if watched.load is not None and watched.load_status is None:
        found, status = os.waitpid(watched.load, os.WNOHANG)
        if found:
            watched.load_status = os.waitstatus_to_exitcode(status)
            if not watched.stopped:
                watched.stop()
    if program.seconds is not None and not watched.stopped:
        since = watched.begin + (watched.listened or 0.0)
        if now - since >= program.seconds and (watched.listened is not None or not program.load):
            watched.stop()
    if now >= watched.next_step:
        watched.stop()
