//! The only file that names a mutex, an atomic or loom: `--cfg loom` swaps all of them at once.

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

    use spin::mutex::{SpinMutex, SpinMutexGuard};

    /// A lock of one byte, for critical sections of a few instructions: one locked instruction takes
    /// it and a plain store gives it back, where a mutex that can sleep needs two.
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

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }

        /// The owner needs nanoseconds, unless it was put to sleep in between: then it needs the
        /// processor, and in the end (owners of a lower priority) nobody else on it.
        #[cold]
        fn wait(&self) -> MutexGuard<'_, T> {
            let mut turn = 0_u8;
            loop {
                match turn {
                    0..100 => hint::spin_loop(),
                    100..200 => thread::yield_now(),
                    _ => thread::sleep(Duration::from_micros(50)),
                }
                turn = turn.saturating_add(1);
                if !self.0.is_locked()
                    && let Some(guard) = self.0.try_lock()
                {
                    return guard;
                }
            }
        }
    }

    /// Has the thread that made it sleep until another one wakes it.
    pub(crate) struct Parker(thread::Thread);

    impl Default for Parker {
        fn default() -> Self {
            Self(thread::current())
        }
    }

    impl Parker {
        pub(crate) fn waker(&self) -> Box<dyn FnOnce() + Send> {
            let thread = self.0.clone();
            Box::new(move || thread.unpark())
        }

        /// Sleeps, or not: whoever calls this looks for himself what happened. Says whether there was
        /// time left. Without a deadline there always is.
        pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
            let Some(deadline) = deadline else {
                thread::park();
                return true;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            thread::park_timeout(left);
            !left.is_zero()
        }
    }

    /// A small number of the calling thread's own, counted up from 0.
    #[inline]
    pub(crate) fn thread_index() -> usize {
        // No destructor, so it is there as long as the thread is.
        thread_local!(static INDEX: Cell<usize> = const { Cell::new(usize::MAX) });
        static NEXT: AtomicUsize = AtomicUsize::new(0);

        let index = INDEX.get();
        if index != usize::MAX {
            return index;
        }
        let index = NEXT.fetch_add(1, Ordering::Relaxed) % usize::MAX;
        INDEX.set(index);
        index
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

    /// Whoever has the gate has the lock. That is a single step for loom to interleave, and nobody spins.
    /// But loom has a thread that is about to try the gate wait until it is free (its issue 376): whoever
    /// finds such a thread takes the lock with a mark instead, and leaves the gate open for it.
    #[derive(Debug)]
    pub(crate) struct Mutex<T> {
        gate: loom::sync::Mutex<()>,
        marked: sync::atomic::AtomicBool,
        trying: sync::atomic::AtomicUsize,
        /// For the mark to be gone.
        waiting: sync::atomic::AtomicUsize,
        unmarked: Condvar,
        /// For whoever has the lock, so nobody waits here.
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
                self.mutex.unmarked.notify_one(); // what nobody needs is one more thing to interleave
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

    /// The real one's, whose time is never over, and who once awake stays so. (loom forgets that a thread
    /// was unparked when that thread yields before it parks.)
    #[derive(Default)]
    pub(crate) struct Parker(Arc<(loom::sync::Mutex<bool>, Condvar)>);

    impl Parker {
        pub(crate) fn waker(&self) -> Box<dyn FnOnce() + Send> {
            let parked = Arc::clone(&self.0);
            Box::new(move || {
                *parked.0.lock().unwrap() = true;
                parked.1.notify_one();
            })
        }

        pub(crate) fn park(&self, _deadline: Option<std::time::Instant>) -> bool {
            let (awake, woken) = &*self.0;
            let mut awake = awake.lock().unwrap();
            while !*awake {
                awake = woken.wait(awake).unwrap();
            }
            true
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
}

pub(crate) use imp::{Arc, AtomicU64, Mutex, MutexGuard, Ordering, Parker, thread_index};
#[cfg(feature = "python")]
pub(crate) use imp::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
