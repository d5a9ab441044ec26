//! One size class: what is idle in it, and counters that are exact because they share its locks.
//!
//! Each thread works on one of a few *shelves*, under that shelf's lock alone. Only when its shelf
//! cannot serve it (empty, or no room) it locks the class and all shelves, and sees the class as a
//! whole: so `limit` bounds them all together, one thread alone can use all of it, and a request is
//! a miss, or a return discarded, only if no shelf at all could serve it.
//!
//! A shelf keeps an item only where it has *room*. The pool's budget grants room to its buckets, so
//! that all of them together stay below its bounds, and each bucket deals out its own to its shelves.

pub(crate) mod shard;

use crate::bucket::shard::{Age, Batch, Shelf};
use crate::budget::Budget;
use crate::error::Error;
use crate::stats::{BucketStats, Reason};
use crate::sync::{Mutex, MutexGuard, thread_index};

/// Threads share a shelf when there are more of them than this. (loom has to try all orders.)
const SHELVES: usize = if cfg!(loom) { 2 } else { 4 };

/// How often a thread looks through the other shelves, some of which may be busy, before it waits.
const TRIES: usize = if cfg!(loom) { 1 } else { 4 };

/// How many returns go by between two times that are for other things.
const NOW_AND_THEN: u64 = 1024;

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
    /// Freed instead of being kept, or after having been kept, by reason.
    freed: [u64; Reason::COUNT],
    /// The most that were out at once. Only a miss can raise it: before it nothing was idle, so all
    /// there was, was out; and until the next one there is no more than that.
    peak: u64,
}

/// Why an item that came back was not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The class has as many as it may. It is counted, and to be freed.
    Full,
    /// The budget grants no room. It is not counted yet.
    NoRoom,
}

/// What a bucket gave up, to be freed by the caller when the locks are gone. To the budget it is free
/// already, so that there is no moment at which it is neither idle nor to be had.
#[derive(Debug)]
pub(crate) struct Evicted<T> {
    /// The items, oldest first.
    pub(crate) items: Batch<T>,
    pub(crate) count: usize,
}

/// A request that found nothing. It is counted, for it is about to be served with fresh memory.
#[derive(Debug)]
pub(crate) struct Miss {
    number: u64,
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
                freed: [0; Reason::COUNT],
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
        for distance in (1..SHELVES).cycle().take((SHELVES - 1) * TRIES) {
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

    /// Takes an item back onto this thread's shelf. Hands it out again if there is no room: then try
    /// [`push_any`](Self::push_any). `dropped`: it comes home without having been released. Says now
    /// and then, every so many returns, that it is time for other things.
    #[inline]
    pub(crate) fn push(&self, item: T, dropped: bool) -> Result<bool, T> {
        let mut shelf = self.shelf(thread_index()).lock();
        if shelf.depth() < shelf.room {
            shelf.take_back(item, dropped);
            return Ok(shelf.returned.is_multiple_of(NOW_AND_THEN));
        }
        Err(item)
    }

    /// Takes an item back wherever the class has room, or gets some. One that does not fit is handed
    /// out again.
    #[cold]
    pub(crate) fn push_any(
        &self,
        item: T,
        dropped: bool,
        budget: &Budget,
    ) -> Result<(), (T, Refusal)> {
        self.lock().push(item, dropped, budget, self.size)
    }

    /// Counts a return whose item is freed for this reason, or was handed to somebody who waited.
    #[cold]
    pub(crate) fn count_return(&self, dropped: bool, freed: Option<Reason>) {
        let mut whole = self.lock();
        let [own, ..] = &mut whole.shelves;
        own.count_return(dropped);
        if let Some(reason) = freed {
            whole.class.count(reason, 1);
        }
    }

    /// Takes back the count of a miss whose fresh memory was not to be had.
    #[cold]
    pub(crate) fn undo(&self, miss: &Miss) {
        let mut whole = self.lock();
        let last = whole.class.misses == miss.number;
        whole.class.misses = whole.class.misses.wrapping_sub(1);
        // After another one, which was served, nobody knows what the peak would have been.
        if last {
            whole.class.peak = whole.existing().max(miss.peak_before);
        }
    }

    /// Gives up room that nothing lies in, as much as `count` items need at most.
    #[cold]
    pub(crate) fn give_up_room(&self, count: usize, budget: &Budget) -> usize {
        let mut whole = self.lock();
        let mut left = count;
        for shelf in &mut whole.shelves {
            let unused = shelf.room.saturating_sub(shelf.depth()).min(left);
            shelf.room = shelf.room.saturating_sub(unused);
            left = left.saturating_sub(unused);
        }
        let given_up = count.saturating_sub(left);
        budget.take_back(given_up.saturating_mul(self.size), 0);
        given_up
    }

    /// Gives up idle items of that age, the oldest of each shelf: `count` at most and no more than a
    /// batch.
    #[cold]
    pub(crate) fn evict(
        &self,
        count: usize,
        age: Age,
        reason: Reason,
        budget: &Budget,
    ) -> Evicted<T> {
        let mut whole = self.lock();
        let room = whole.room();
        let evicted = whole.evict(count, age, reason);
        let room = room.saturating_sub(whole.room());
        self.give_up(room, evicted.count, budget);
        evicted
    }

    /// Gives up a batch of idle items, and all room that nothing lies in. When there is nothing left to
    /// give up, every return has to ask for room.
    #[cold]
    pub(crate) fn empty(&self, reason: Reason, budget: &Budget) -> Evicted<T> {
        let mut whole = self.lock();
        let room = whole.room();
        let evicted = whole.evict(usize::MAX, Age::Any, reason);
        for shelf in &mut whole.shelves {
            shelf.room = shelf.depth();
        }
        let room = room.saturating_sub(whole.room());
        self.give_up(room, evicted.count, budget);
        evicted
    }

    /// Tells the budget, while the locks are held.
    fn give_up(&self, room: usize, items: usize, budget: &Budget) {
        let bytes = |items: usize| items.saturating_mul(self.size);
        budget.take_back(bytes(room), bytes(items));
    }

    /// From now on, all that is idle is [`Cold`](Age::Cold) until it is taken.
    #[cold]
    pub(crate) fn cool(&self) {
        for shelf in &mut self.lock().shelves {
            shelf.cool();
        }
    }

    /// From now on, all that is idle is [`Unneeded`](Age::Unneeded) until it is taken.
    #[cold]
    pub(crate) fn begin_decay(&self) {
        for shelf in &mut self.lock().shelves {
            shelf.begin_decay();
        }
    }

    /// How many are idle.
    pub(crate) fn depth(&self) -> usize {
        self.lock().depth()
    }

    /// The counters, and how many of the returned buffers had not been released.
    pub(crate) fn stats(&self) -> (BucketStats, u64) {
        let whole = self.lock();
        let limit = whole.class.limit;
        let stats = BucketStats {
            size: self.size,
            hits: whole.hits(),
            misses: whole.class.misses,
            returned: whole.sum(|shelf| shelf.returned),
            discarded: whole.class.freed(Reason::Discarded),
            capped: whole.class.freed(Reason::Capped),
            trimmed: whole.class.freed(Reason::Trimmed),
            decayed: whole.class.freed(Reason::Decayed),
            closed: whole.class.freed(Reason::Closed),
            depth: whole.depth(),
            // What is idle was out before, all of it at once when the last one was made.
            peak_depth: usize::try_from(whole.class.peak).map_or(limit, |peak| peak.min(limit)),
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

impl Class {
    fn count(&mut self, reason: Reason, n: u64) {
        if let Some(counter) = self.freed.get_mut(reason as usize) {
            *counter = counter.wrapping_add(n);
        }
    }

    fn freed(&self, reason: Reason) -> u64 {
        self.freed.get(reason as usize).copied().unwrap_or_default()
    }
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
            Miss {
                number: self.class.misses,
                peak_before,
            }
        })
    }

    fn push(
        mut self,
        item: T,
        dropped: bool,
        budget: &Budget,
        size: usize,
    ) -> Result<(), (T, Refusal)> {
        let (room, depth) = (self.room(), self.depth());
        if room <= depth {
            let [own, ..] = &mut self.shelves;
            if self.class.limit <= depth {
                own.count_return(dropped);
                self.class.count(Reason::Discarded, 1);
                return Err((item, Refusal::Full));
            }
            let wanted = self.class.limit.saturating_sub(room);
            let granted = budget.grant_room(wanted, size);
            if granted == 0 {
                return Err((item, Refusal::NoRoom));
            }
            own.room = own.room.saturating_add(granted);
        }
        self.deal_out_room();
        let [own, ..] = &mut self.shelves;
        own.take_back(item, dropped);
        Ok(())
    }

    /// Deals out anew the room that nothing lies in: half and more to this thread, the rest to the
    /// other shelves, so that they do not have to come here at once.
    fn deal_out_room(&mut self) {
        let free = self.room().saturating_sub(self.depth());
        let [own, others @ ..] = &mut self.shelves;
        let share = free / (2 * SHELVES);
        let mut rest = free;
        for shelf in others {
            shelf.room = shelf.depth().saturating_add(share);
            rest = rest.saturating_sub(share);
        }
        own.room = own.depth().saturating_add(rest);
    }

    fn evict(&mut self, count: usize, age: Age, reason: Reason) -> Evicted<T> {
        let mut items = Batch::default();
        let mut evicted = 0_usize;
        for shelf in &mut self.shelves {
            let left = count.saturating_sub(evicted).min(shelf.count(age));
            evicted = evicted.saturating_add(shelf.evict(left, &mut items));
        }
        self.class.count(reason, evicted as u64);
        Evicted {
            items,
            count: evicted,
        }
    }

    /// How many the shelves may keep.
    fn room(&self) -> usize {
        let rooms = self.shelves.iter().map(|shelf| shelf.room);
        rooms.fold(0, usize::saturating_add)
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
        self.class.freed.iter().copied().fold(0, u64::wrapping_add)
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
    use crate::config::Config;

    /// On a thread of its own, which has a shelf of its own unless it is one of many.
    fn elsewhere<R: Send>(work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    fn pop<T>(bucket: &Bucket<T>) -> Result<T, Miss> {
        bucket.pop().map_or_else(|| bucket.pop_any(), Ok)
    }

    /// A budget that is no bound here.
    fn budget() -> Budget {
        Budget::new(&Config::DEFAULT)
    }

    fn push<T>(bucket: &Bucket<T>, item: T, dropped: bool) -> Option<T> {
        let item = bucket.push(item, dropped).err()?;
        let (item, refusal) = bucket.push_any(item, dropped, &budget()).err()?;
        assert_eq!(refusal, Refusal::Full);
        Some(item)
    }

    /// Whether there is room or not.
    fn give<T>(bucket: &Bucket<T>, item: T) {
        let _ = push(bucket, item, false);
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
            assert_eq!(push(&bucket, item, false), None);
        }
        assert_eq!(push(&bucket, 3, true), Some(3));
        assert_eq!((pop(&bucket).unwrap(), pop(&bucket).unwrap()), (2, 1));
        let (stats, dropped) = bucket.stats();
        assert_eq!((stats.hits, stats.misses, stats.depth), (2, 1, 0));
        assert_eq!((stats.returned, stats.discarded, dropped), (3, 1, 1));
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let bucket = Bucket::new(8, 0).unwrap();
        assert_eq!(push(&bucket, 1, false), Some(1));
        assert_eq!(bucket.stats().0.discarded, 1);
    }

    #[test]
    fn one_thread_alone_can_use_all_of_a_class_and_newest_first() {
        for limit in [1, 2, 3, 5, 16, 100] {
            let bucket = Bucket::new(8, limit).unwrap();
            for item in 0..limit {
                assert_eq!(push(&bucket, item, false), None, "{limit}");
            }
            assert_eq!(push(&bucket, limit, false), Some(limit));
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
            (0..limit).for_each(|item| assert_eq!(push(&bucket, item, false), None));
            for _ in 0..2 * SHELVES {
                elsewhere(|| assert_eq!(push(&bucket, 0, false), Some(0)));
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
            assert_eq!(push(&bucket, 0, false), None);
        }
        assert_eq!(bucket.stats().0.peak_outstanding, 1);
        drop((pop(&bucket), pop(&bucket)));
        give(&bucket, 1);
        give(&bucket, 2);
        drop(pop(&bucket));
        assert_eq!(bucket.stats().0.peak_outstanding, 2);
    }

    #[test]
    fn a_failed_miss_does_not_lower_a_peak_that_another_one_raised() {
        let bucket = Bucket::<u8>::new(8, 0).unwrap();
        pop(&bucket).unwrap_err();
        let failed = pop(&bucket).unwrap_err();
        pop(&bucket).unwrap_err();
        assert_eq!(push(&bucket, 1, false), Some(1));
        bucket.undo(&failed);
        assert!(bucket.stats().0.peak_outstanding >= 2);
    }

    #[test]
    fn emptied_it_hands_out_all_and_every_return_has_to_ask_for_room() {
        let bucket = Bucket::new(8, 40).unwrap();
        (0..20).for_each(|item| give(&bucket, item));
        elsewhere(|| (20..40).for_each(|item| give(&bucket, item)));
        let before = bucket.stats().0;
        let mut items = Vec::new();
        loop {
            check(&bucket);
            let evicted = bucket.empty(Reason::Closed, &budget());
            if evicted.count == 0 {
                break;
            }
            items.extend(evicted.items.into_iter().flatten());
        }
        items.sort_unstable();
        assert!(items.into_iter().eq(0..40));
        assert_eq!(bucket.lock().room(), 0);
        let emptied = BucketStats {
            depth: 0,
            closed: 40,
            ..before
        };
        assert_eq!(bucket.stats().0, emptied);
        assert_eq!(bucket.push(1, false), Err(1));
        let closed = budget();
        closed.close();
        let refused = bucket.push_any(1, false, &closed);
        assert_eq!(refused, Err((1, Refusal::NoRoom)));
        assert_eq!(bucket.stats().0, emptied, "not counted yet");
        bucket.count_return(true, Some(Reason::Closed));
        let stats = bucket.stats();
        assert_eq!((stats.0.returned, stats.0.closed, stats.1), (41, 41, 1));
    }

    #[test]
    fn the_oldest_are_evicted_with_the_room_they_lay_in() {
        let bucket = Bucket::new(8, 16).unwrap();
        (0..12).for_each(|item| give(&bucket, item));
        let room = bucket.lock().room();
        let evicted = bucket.evict(3, Age::Any, Reason::Trimmed, &budget());
        assert_eq!(evicted.count, 3);
        assert!(evicted.items.into_iter().flatten().eq(0..3));
        assert_eq!(bucket.lock().room(), room - 3);
        assert_eq!((bucket.depth(), bucket.stats().0.trimmed), (9, 3));
        check(&bucket);
    }

    #[test]
    fn cold_is_what_nobody_needed_since_it_was_cooled() {
        let bucket = Bucket::new(8, 16).unwrap();
        (0..6).for_each(|item| give(&bucket, item));
        let cold = || bucket.evict(usize::MAX, Age::Cold, Reason::Capped, &budget());
        assert_eq!(cold().count, 0, "they came home just now");
        bucket.cool();
        let busy: Vec<_> = (0..4).map(|_| pop(&bucket).unwrap()).collect();
        busy.into_iter().rev().for_each(|item| give(&bucket, item));
        assert!(cold().items.into_iter().flatten().eq(0..2));
        assert_eq!(cold().count, 0);
        bucket.cool();
        assert!(
            cold().items.into_iter().flatten().eq(2..6),
            "the newest, too"
        );
        assert_eq!((bucket.stats().0.capped, bucket.depth()), (6, 0));
    }

    #[test]
    fn to_be_cooled_in_between_does_not_make_it_unneeded() {
        let bucket = Bucket::new(8, 16).unwrap();
        (0..6).for_each(|item| give(&bucket, item));
        bucket.begin_decay();
        let busy: Vec<_> = (0..4).map(|_| pop(&bucket).unwrap()).collect();
        busy.into_iter().rev().for_each(|item| give(&bucket, item));
        bucket.cool();
        let busy = pop(&bucket).unwrap();
        give(&bucket, busy);
        let unneeded = || bucket.evict(usize::MAX, Age::Unneeded, Reason::Decayed, &budget());
        assert!(unneeded().items.into_iter().flatten().eq(0..2));
        assert_eq!(unneeded().count, 0);
        bucket.begin_decay();
        assert!(unneeded().items.into_iter().flatten().eq(2..6));
    }

    #[test]
    fn room_that_nothing_lies_in_can_be_taken_back() {
        let bucket = Bucket::new(8, 16).unwrap();
        (0..4).for_each(|item| give(&bucket, item));
        assert_eq!(bucket.give_up_room(3, &budget()), 3);
        assert_eq!(bucket.give_up_room(100, &budget()), 9);
        assert_eq!((bucket.give_up_room(1, &budget()), bucket.depth()), (0, 4));
        check(&bucket);
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
                        let _ = push(&bucket, item, i % 2 == 0);
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
