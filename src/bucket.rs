//! One size class: what is idle in it, and counters that are exact because they share its locks.
//!
//! Each thread works on one of a few *shelves*, under that shelf's lock alone. Only when its shelf
//! cannot serve it (empty, or no room) it locks the class and all shelves, and sees the class as a
//! whole: so `limit` bounds them all together, one thread alone can use all of it, and a request is
//! a miss, or a return discarded, only if no shelf at all could serve it.

use crate::error::Error;
use crate::shelf::Shelf;
use crate::stats::BucketStats;
use crate::sync::{Mutex, MutexGuard, thread_index};

/// Threads share a shelf when there are more of them than this. (loom has to try all orders.)
const SHELVES: usize = if cfg!(loom) { 2 } else { 4 };

/// How often a thread looks through the other shelves, some of which may be busy, before it waits.
const TRIES: usize = 3;

#[derive(Debug)]
pub(crate) struct Bucket<T> {
    size: usize,
    class: Mutex<Class>,
    shelves: [Aligned<Mutex<Shelf<T>>>; SHELVES],
}

/// Two cache lines of its own, as processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned<T>(T);

/// What happens only to the class as a whole.
#[derive(Debug)]
struct Class {
    limit: usize,
    misses: u64,
    /// Returned, and handed out again to be freed: `discarded`, or idle when the class was closed.
    discarded: u64,
    closed: u64,
    /// The most that were out at once. Only a miss can raise it: before it nothing was idle, so all
    /// there was, was out; and until the next one there is no more than that.
    peak: u64,
}

/// A request that found nothing. It is counted, for it is about to be served with fresh memory.
#[derive(Debug)]
pub(crate) struct Miss {
    peak_before: u64,
}

impl<T> Bucket<T> {
    /// A bucket of buffers of `size` bytes that keeps at most `limit` idle; room is reserved here.
    pub(crate) fn new(size: usize, limit: usize) -> Result<Self, Error> {
        let mut shelves = [const { Shelf::EMPTY }; SHELVES];
        for shelf in &mut shelves {
            shelf.reserve(limit)?;
        }
        Ok(Self {
            size,
            class: Mutex::new(Class {
                limit,
                misses: 0,
                discarded: 0,
                closed: 0,
                peak: 0,
            }),
            shelves: shelves.map(|shelf| Aligned(Mutex::new(shelf))),
        })
    }

    /// What each of its buffers holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Takes the newest item of this thread's shelf. `None`: then try [`pop_any`](Self::pop_any).
    #[inline]
    pub(crate) fn pop(&self) -> Option<T> {
        self.shelf(thread_index()).lock().pop()
    }

    /// Takes an item of any shelf.
    #[cold]
    pub(crate) fn pop_any(&self) -> Result<T, Miss> {
        let index = thread_index();
        let mut own = self.shelf(index).lock();
        if let Some(item) = own.pop() {
            return Ok(item); // of a thread that shares the shelf
        }
        for distance in (1..SHELVES).cycle().take(SHELVES * TRIES) {
            // Tried only, as this thread holds a lock: who waits for it may hold that one.
            if let Some(mut other) = self.shelf(index.wrapping_add(distance)).try_lock()
                && let Some(item) = own.pop_from(&mut other)
            {
                return Ok(item);
            }
        }
        drop(own);
        self.lock().pop()
    }

    /// Takes an item back. One that does not fit is handed out again, for the caller to free when the
    /// locks are gone. `dropped`: it comes home without having been released.
    #[inline]
    #[must_use]
    pub(crate) fn push(&self, item: T, dropped: bool) -> Option<T> {
        let mut shelf = self.shelf(thread_index()).lock();
        if shelf.depth() < shelf.room {
            shelf.take_back(item, dropped);
            return None;
        }
        drop(shelf);
        self.lock().push(item, dropped)
    }

    /// Takes back the count of a miss whose fresh memory was not to be had.
    #[cold]
    pub(crate) fn undo(&self, miss: &Miss) {
        let mut whole = self.lock();
        let class = &mut whole.class;
        class.misses = class.misses.wrapping_sub(1);
        whole.class.peak = whole.existing().max(miss.peak_before);
    }

    /// Keeps nothing from now on, and hands out what it kept, for the caller to free.
    pub(crate) fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let mut whole = self.lock();
        whole.class.limit = 0;
        whole.class.closed = whole.class.closed.wrapping_add(whole.depth() as u64);
        let idle = whole.shelves.each_mut().map(|shelf| shelf.close());
        idle.into_iter().flatten()
    }

    /// The counters, and how many of the returned buffers had not been released.
    pub(crate) fn stats(&self) -> (BucketStats, u64) {
        let whole = self.lock();
        let stats = BucketStats {
            size: self.size,
            hits: whole.hits(),
            misses: whole.class.misses,
            returned: whole.sum(|shelf| shelf.returned),
            discarded: whole.class.discarded,
            depth: whole.depth(),
            peak_outstanding: whole.class.peak,
        };
        (stats, whole.sum(|shelf| shelf.dropped))
    }

    #[inline]
    fn shelf(&self, thread_index: usize) -> &Mutex<Shelf<T>> {
        let [first, ..] = &self.shelves;
        let shelf = self.shelves.get(thread_index % SHELVES);
        &shelf.unwrap_or(first).0
    }

    #[cold]
    fn lock(&self) -> Whole<'_, T> {
        let class = self.class.lock();
        let mut shelves = self.shelves.each_ref().map(|shelf| shelf.0.lock());
        shelves.rotate_left(thread_index() % SHELVES);
        Whole { class, shelves }
    }
}

/// All locks of a class: the class's was taken first, then the shelves' in their order.
struct Whole<'a, T> {
    class: MutexGuard<'a, Class>,
    /// The calling thread's first.
    shelves: [MutexGuard<'a, Shelf<T>>; SHELVES],
}

impl<T> Whole<'_, T> {
    fn pop(mut self) -> Result<T, Miss> {
        let [own, others @ ..] = &mut self.shelves;
        let found = own.pop();
        let found = found.or_else(|| others.iter_mut().find_map(|other| own.pop_from(other)));
        found.ok_or_else(|| {
            let peak_before = self.class.peak;
            self.class.misses = self.class.misses.wrapping_add(1);
            self.class.peak = peak_before.max(self.existing());
            Miss { peak_before }
        })
    }

    fn push(mut self, item: T, dropped: bool) -> Option<T> {
        self.make_room();
        let [own, ..] = &mut self.shelves;
        if own.depth() < own.room {
            own.take_back(item, dropped);
            return None;
        }
        own.count_return(dropped);
        self.class.discarded = self.class.discarded.wrapping_add(1);
        Some(item)
    }

    /// Deals out anew what the class may still keep: half and more to this thread, the rest to the
    /// other shelves, so that they do not have to come here at once.
    fn make_room(&mut self) {
        let free = self.class.limit.saturating_sub(self.depth());
        let [own, others @ ..] = &mut self.shelves;
        let share = free / (2 * SHELVES);
        let mut rest = free;
        for shelf in others {
            shelf.room = shelf.depth().saturating_add(share);
            rest = rest.saturating_sub(share);
        }
        own.room = own.depth().saturating_add(rest);
    }

    fn depth(&self) -> usize {
        let depths = self.shelves.iter().map(|shelf| shelf.depth());
        depths.fold(0, usize::saturating_add)
    }

    /// How many there are, out and idle: a miss makes one.
    fn existing(&self) -> u64 {
        self.class.misses.wrapping_sub(self.freed())
    }

    fn freed(&self) -> u64 {
        self.class.discarded.wrapping_add(self.class.closed)
    }

    /// What came back and was not freed is idle, unless it went out again: so hits need no counter.
    fn hits(&self) -> u64 {
        let idle = self.depth() as u64;
        let returned = self.sum(|shelf| shelf.returned);
        returned.wrapping_sub(self.freed()).wrapping_sub(idle)
    }

    fn sum(&self, counter: impl Fn(&Shelf<T>) -> u64) -> u64 {
        let counters = self.shelves.iter().map(|shelf| counter(shelf));
        counters.fold(0, u64::wrapping_add)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// On a thread of its own, which has a shelf of its own unless it is one of many.
    fn elsewhere<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn pop<T>(bucket: &Bucket<T>) -> Result<T, Miss> {
        bucket.pop().map_or_else(|| bucket.pop_any(), Ok)
    }

    /// Whether there is room or not.
    fn give<T>(bucket: &Bucket<T>, item: T) {
        let _ = bucket.push(item, false);
    }

    /// No shelf keeps more than it may, and all of them may keep no more than the class.
    fn check<T>(bucket: &Bucket<T>) {
        let whole = bucket.lock();
        for shelf in &whole.shelves {
            assert!(shelf.depth() <= shelf.room && shelf.depth() <= shelf.capacity());
        }
        let room: usize = whole.shelves.iter().map(|shelf| shelf.room).sum();
        assert!(room <= whole.class.limit, "{room}");
    }

    #[test]
    fn newest_first_and_never_more_than_the_limit() {
        let bucket = Bucket::new(8, 2).unwrap();
        assert!(pop(&bucket).is_err());
        for item in 1..=2 {
            assert_eq!(bucket.push(item, false), None);
        }
        assert_eq!(bucket.push(3, true), Some(3));
        assert_eq!((pop(&bucket).unwrap(), pop(&bucket).unwrap()), (2, 1));
        let (stats, dropped) = bucket.stats();
        assert_eq!((stats.hits, stats.misses, stats.depth), (2, 1, 0));
        assert_eq!((stats.returned, stats.discarded, dropped), (3, 1, 1));
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let bucket = Bucket::new(8, 0).unwrap();
        assert_eq!(bucket.push(1, false), Some(1));
        assert_eq!(bucket.stats().0.discarded, 1);
    }

    #[test]
    fn one_thread_alone_can_use_all_of_a_class_and_newest_first() {
        for limit in [1, 2, 3, 5, 16, 100] {
            let bucket = Bucket::new(8, limit).unwrap();
            for item in 0..limit {
                assert_eq!(bucket.push(item, false), None, "{limit}");
            }
            assert_eq!(bucket.push(limit, false), Some(limit));
            let popped: Vec<_> = (0..limit).map(|_| pop(&bucket).unwrap()).collect();
            assert!(popped.is_sorted_by(|a, b| a > b), "{popped:?}");
            assert!(pop(&bucket).is_err());
        }
    }

    #[test]
    fn the_limit_bounds_all_shelves_together() {
        for limit in [0, 1, 2, 3, 5, 16] {
            let bucket = Bucket::new(8, limit).unwrap();
            for _ in 0..3 * SHELVES {
                elsewhere(|| (0..3).for_each(|item| give(&bucket, item)));
            }
            assert_eq!(bucket.stats().0.depth, limit.min(9 * SHELVES));
            check(&bucket);
        }
    }

    #[test]
    fn a_full_shelf_leaves_no_room_on_the_others() {
        for limit in [0, 1, 7, 16, 100] {
            let bucket = Bucket::new(8, limit).unwrap();
            (0..limit).for_each(|item| assert_eq!(bucket.push(item, false), None));
            for _ in 0..2 * SHELVES {
                elsewhere(|| assert_eq!(bucket.push(0, false), Some(0)));
            }
            check(&bucket);
        }
    }

    #[test]
    fn with_all_locked_nothing_idle_is_missed() {
        let bucket = Bucket::new(8, 30).unwrap();
        for item in 0..2 * SHELVES {
            elsewhere(|| give(&bucket, item));
        }
        for _ in 0..2 * SHELVES {
            assert!(bucket.lock().pop().is_ok());
            check(&bucket);
        }
        assert!(bucket.lock().pop().is_err());
    }

    #[test]
    fn what_another_thread_returned_is_found_to_the_last() {
        let bucket = Bucket::new(8, 30).unwrap();
        for thread in 0..SHELVES {
            elsewhere(|| (0..5).for_each(|item| give(&bucket, 5 * thread + item)));
        }
        let mut popped: Vec<_> = (0..5 * SHELVES).map(|_| pop(&bucket).unwrap()).collect();
        popped.sort_unstable();
        check(&bucket);
        assert_eq!(popped, (0..5 * SHELVES).collect::<Vec<_>>());
        assert!(pop(&bucket).is_err());
    }

    #[test]
    fn the_shelves_never_grow_under_a_lock() {
        let bucket = Bucket::new(8, 3).unwrap();
        let reserved = || bucket.lock().shelves.each_ref().map(|s| s.capacity());
        let before = reserved();
        for item in 0..10 {
            elsewhere(|| give(&bucket, item));
            drop(pop(&bucket));
            give(&bucket, item);
        }
        let mut after = reserved();
        after.sort_unstable();
        assert_eq!(after, before);
    }

    #[test]
    fn a_miss_that_could_not_be_served_leaves_no_trace() {
        let bucket = Bucket::<u8>::new(8, 3).unwrap();
        let before = bucket.stats();
        let miss = pop(&bucket).unwrap_err();
        assert_eq!(bucket.stats().0.peak_outstanding, 1);
        bucket.undo(&miss);
        assert_eq!(bucket.stats(), before);
    }

    #[test]
    fn the_peak_is_what_was_out_at_once() {
        let bucket = Bucket::new(8, 3).unwrap();
        for round in 0..3 {
            assert_eq!(pop(&bucket).is_err(), round == 0);
            assert_eq!(bucket.push(0, false), None);
        }
        assert_eq!(bucket.stats().0.peak_outstanding, 1);
        drop((pop(&bucket), pop(&bucket)));
        give(&bucket, 1);
        give(&bucket, 2);
        drop(pop(&bucket));
        assert_eq!(bucket.stats().0.peak_outstanding, 2);
    }

    #[test]
    fn closed_it_hands_out_everything_and_keeps_no_more() {
        let bucket = Bucket::new(8, 4).unwrap();
        assert_eq!(bucket.push(1, false), None);
        elsewhere(|| assert_eq!(bucket.push(2, false), None));
        let item = pop(&bucket).unwrap();
        give(&bucket, item);
        let before = bucket.stats().0;
        let mut closed: Vec<_> = bucket.close().collect();
        closed.sort_unstable();
        assert_eq!(closed, [1, 2]);
        assert_eq!(bucket.stats().0, BucketStats { depth: 0, ..before });
        assert_eq!(bucket.push(3, false), Some(3));
        assert!(pop(&bucket).is_err());
    }

    #[test]
    fn a_limit_beyond_memory_is_an_error() {
        let error = Bucket::<u8>::new(8, usize::MAX).unwrap_err();
        assert_eq!(
            error,
            Error::OutOfMemory {
                requested: usize::MAX
            }
        );
    }

    #[test]
    fn counters_are_exact_with_more_threads_than_shelves() {
        let bucket = Bucket::new(8, 5).unwrap();
        let threads = 2 * SHELVES;
        let begin = Barrier::new(threads);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    begin.wait();
                    for i in 0..10_000 {
                        let item = pop(&bucket).unwrap_or(i);
                        let _ = bucket.push(item, i % 2 == 0);
                    }
                });
            }
        });
        check(&bucket);
        let (stats, dropped) = bucket.stats();
        let all = 10_000 * threads as u64;
        assert_eq!((stats.hits + stats.misses, stats.returned), (all, all));
        assert_eq!(dropped, all / 2);
        assert_eq!(stats.depth as u64, stats.misses - stats.discarded);
        assert!(stats.depth <= 5);
        assert!((1..=threads as u64).contains(&stats.peak_outstanding));
    }
}
