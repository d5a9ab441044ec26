//! Mutexes, atomics and thread indices. No other file names them, so that `--cfg loom` swaps them all.

/// How a [`Parker`] came to wake up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakeup {
    /// Before the deadline, or without one.
    InTime,
    /// The deadline had passed already.
    TooLate,
}

/// A number of things that the process has. It orders no other memory, so loom does not model it.
#[derive(Debug)]
pub(crate) struct ProcessCount(std::sync::atomic::AtomicUsize);

impl ProcessCount {
    pub(crate) const fn new() -> Self {
        Self(std::sync::atomic::AtomicUsize::new(0))
    }

    /// Adds one, unless there are `limit` already.
    pub(crate) fn add_below(&self, limit: usize) -> bool {
        let add = |count: usize| (count < limit).then(|| count.saturating_add(1));
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        self.0.fetch_update(relaxed, relaxed, add).is_ok()
    }

    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, n: usize) {
        self.0.fetch_sub(n, std::sync::atomic::Ordering::Relaxed);
    }

    #[cfg(feature = "python")]
    pub(crate) fn get(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Sets it to zero, and returns what it was.
    #[cfg(feature = "python")]
    pub(crate) fn take(&self) -> usize {
        self.0.swap(0, std::sync::atomic::Ordering::Relaxed)
    }
}

#[cfg(not(loom))]
mod imp {
    use std::cell::Cell;
    use std::hint;
    pub(crate) use std::sync::Arc;
    #[cfg(feature = "python")]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Wakeup;
    use spin::mutex::{SpinMutex, SpinMutexGuard};

    /// A lock of one byte for critical sections of a few instructions. Locking is one atomic instruction
    /// and unlocking a plain store; a mutex that can sleep needs two atomic instructions.
    ///
    /// With `parking_lot::Mutex` in its place (0.12.5, two cores, nine interleaved rounds, medians) a round
    /// trip took 1.38 times as long with one thread, 1.38 with two, and 1.39 with eight. A step in a window of 32
    /// buffers took 1.15 times as long with one thread and 1.31 with two.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(SpinMutex<T>);

    pub(crate) type MutexGuard<'a, T> = SpinMutexGuard<'a, T>;

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(SpinMutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.try_lock() {
                Some(guard) => guard,
                None => self.wait(),
            }
        }

        #[inline(always)]
        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }

        /// Waits for the lock. The owner usually unlocks within nanoseconds. If it was preempted, it needs a
        /// processor, so this thread yields; if the owner has a lower priority, only sleeping helps.
        #[cold]
        fn wait(&self) -> MutexGuard<'_, T> {
            let mut attempt = 0_u8;
            loop {
                match attempt {
                    0..100 => hint::spin_loop(),
                    100..200 => thread::yield_now(),
                    _ => thread::sleep(Duration::from_micros(50)),
                }
                attempt = attempt.saturating_add(1);
                if !self.0.is_locked() {
                    if let Some(guard) = self.0.try_lock() {
                        return guard;
                    }
                }
            }
        }
    }

    /// Lets the thread that created it sleep until another thread wakes it.
    pub(crate) struct Parker(thread::Thread);

    impl Default for Parker {
        fn default() -> Self {
            Self(thread::current())
        }
    }

    impl Parker {
        pub(crate) fn waker(&self) -> impl FnOnce() + Send + use<> {
            let thread = self.0.clone();
            move || thread.unpark()
        }

        /// Sleeps until the waker is called or the deadline passes. May wake spuriously; callers re-check
        /// their condition.
        pub(crate) fn park(&self, deadline: Option<Instant>) -> Wakeup {
            let Some(deadline) = deadline else {
                thread::park();
                return Wakeup::InTime;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            thread::park_timeout(left);
            if left.is_zero() {
                Wakeup::TooLate
            } else {
                Wakeup::InTime
            }
        }
    }

    // A thread local without a destructor is usable until the thread ends.
    thread_local!(static INDEX: Cell<usize> = const { Cell::new(UNKNOWN) });

    const UNKNOWN: usize = usize::MAX;

    /// The index of the calling thread: threads are numbered from 0 in the order of their first call.
    pub(crate) fn thread_index() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);

        known_thread_index().unwrap_or_else(|| {
            let index = NEXT.fetch_add(1, Ordering::Relaxed) % UNKNOWN;
            INDEX.set(index);
            index
        })
    }

    /// The same. `None` before the first call of [`thread_index`].
    #[inline(always)]
    pub(crate) fn known_thread_index() -> Option<usize> {
        let index = INDEX.get();
        (index != UNKNOWN).then_some(index)
    }
}

#[cfg(loom)]
mod imp {
    use std::ops::{Deref, DerefMut};
    use std::sync;
    use std::sync::atomic::Ordering::Relaxed;

    pub(crate) use loom::sync::Arc;
    use loom::sync::Condvar;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// A lock that is one step for loom to interleave, so that no thread spins. Its owner holds the gate.
    ///
    /// loom's `try_lock` blocks while another thread holds the mutex (loom issue 376). So if a thread is in
    /// `try_lock`, the next owner sets a mark instead of holding the gate.
    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        gate: loom::sync::Mutex<()>,
        marked: sync::atomic::AtomicBool,
        trying: sync::atomic::AtomicUsize,
        /// How many threads wait for the mark to be removed.
        waiting: sync::atomic::AtomicUsize,
        unmarked: Condvar,
        /// Locked by the owner alone, so no thread waits here.
        value: sync::Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self {
                gate: loom::sync::Mutex::new(()),
                marked: sync::atomic::AtomicBool::new(false),
                trying: sync::atomic::AtomicUsize::new(0),
                waiting: sync::atomic::AtomicUsize::new(0),
                unmarked: Condvar::new(),
                value: sync::Mutex::new(value),
            }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let mut gate = self.gate.lock().unwrap();
            while self.marked.load(Relaxed) {
                self.waiting.fetch_add(1, Relaxed);
                gate = self.unmarked.wait(gate).unwrap();
                self.waiting.fetch_sub(1, Relaxed);
            }
            self.guard(gate)
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.trying.fetch_add(1, Relaxed);
            let gate = self.gate.try_lock();
            self.trying.fetch_sub(1, Relaxed);
            let gate = gate.ok()?;
            (!self.marked.load(Relaxed)).then(|| self.guard(gate))
        }

        fn guard<'a>(&'a self, gate: loom::sync::MutexGuard<'a, ()>) -> MutexGuard<'a, T> {
            let mark = self.trying.load(Relaxed) > 0;
            self.marked.store(mark, Relaxed);
            MutexGuard {
                mutex: self,
                gate: (!mark).then_some(gate),
                value: Some(self.value.try_lock().unwrap()),
            }
        }
    }

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        mutex: &'a Mutex<T>,
        gate: Option<loom::sync::MutexGuard<'a, ()>>,
        value: Option<sync::MutexGuard<'a, T>>,
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            self.value = None;
            let gate = self.gate.take();
            let _gate = gate.unwrap_or_else(|| self.mutex.gate.lock().unwrap());
            self.mutex.marked.store(false, Relaxed);
            if self.mutex.waiting.load(Relaxed) > 0 {
                self.mutex.unmarked.notify_one(); // unneeded notifications would be more to interleave
            }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.value.as_deref().unwrap()
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.value.as_deref_mut().unwrap()
        }
    }

    /// As the other `Parker`, but without timeouts, and it stays awake once woken. (loom forgets an unpark if
    /// the thread yields before it parks.)
    #[derive(Default)]
    pub(crate) struct Parker(Arc<(loom::sync::Mutex<bool>, Condvar)>);

    impl Parker {
        pub(crate) fn waker(&self) -> impl FnOnce() + Send + use<> {
            let parked = Arc::clone(&self.0);
            move || {
                *parked.0.lock().unwrap() = true;
                parked.1.notify_one();
            }
        }

        pub(crate) fn park(&self, _deadline: Option<std::time::Instant>) -> super::Wakeup {
            let (awake, woken) = &*self.0;
            let mut awake = awake.lock().unwrap();
            while !*awake {
                awake = woken.wait(awake).unwrap();
            }
            super::Wakeup::InTime
        }
    }

    loom::lazy_static! {
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }

    loom::thread_local! {
        static INDEX: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn thread_index() -> usize {
        INDEX.with(|index| *index)
    }

    pub(crate) fn known_thread_index() -> Option<usize> {
        Some(thread_index())
    }
}

pub(crate) use imp::{
    Arc, AtomicU64, Mutex, MutexGuard, Ordering, Parker, known_thread_index, thread_index,
};
#[cfg(feature = "python")]
pub(crate) use imp::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
