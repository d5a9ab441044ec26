//! A bucket with all its locks held: the slow paths, which see the size class as a whole.

use super::shard::{Batch, SHARDS, Shard, Victims};
use crate::budget::Budget;
use crate::stats::{BucketStats, Reason, ReturnedBy};
use crate::sync::MutexGuard;

/// The counters of the size class as a whole.
#[derive(Debug)]
pub(super) struct Totals {
    /// How many idle items the class may keep.
    pub(super) limit: usize,
    pub(super) misses: u64,
    /// How many items were freed, by reason.
    freed: [u64; Reason::COUNT],
    /// The most items in use together. Only a miss can raise it: on a miss no item is idle, so every existing
    /// item is in use.
    pub(super) peak: u64,
}

impl Totals {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            misses: 0,
            freed: [0; Reason::COUNT],
            peak: 0,
        }
    }

    pub(super) fn count_freed(&mut self, reason: Reason, n: u64) {
        if let Some(counter) = self.freed.get_mut(reason as usize) {
            *counter = counter.wrapping_add(n);
        }
    }

    fn freed(&self, reason: Reason) -> u64 {
        self.freed.get(reason as usize).copied().unwrap_or_default()
    }

    fn all_freed(&self) -> u64 {
        self.freed.iter().copied().fold(0, u64::wrapping_add)
    }

    /// How many items exist, in use and idle. A miss makes one.
    pub(super) fn existing(&self) -> u64 {
        self.misses.wrapping_sub(self.all_freed())
    }
}

/// Why a returned item was not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The class is full. The return is counted, and the caller frees the item.
    Full,
    /// The budget grants no quota. The return is not counted yet.
    NoQuota,
}

/// A request that found no idle item. It is counted already: fresh memory is about to serve it.
#[derive(Debug)]
pub(crate) struct Miss {
    pub(super) number: u64,
    pub(super) peak_before: u64,
}

/// Items that left the bucket. The caller frees them after the locks are released. The budget counts them as
/// free already, so at no moment are they neither idle nor available.
#[derive(Debug)]
pub(crate) struct Evicted<T> {
    /// The items, oldest first.
    pub(crate) items: Batch<T>,
    pub(crate) count: usize,
}

/// All locks of a bucket. The lock of the totals was taken first, then the shards' in their order.
pub(super) struct LockedShards<'a, T> {
    pub(super) totals: MutexGuard<'a, Totals>,
    /// The calling thread's shard first.
    pub(super) shards: [MutexGuard<'a, Shard<T>>; SHARDS],
}

impl<T> LockedShards<'_, T> {
    pub(super) fn pop(mut self) -> Result<T, Miss> {
        let [own, others @ ..] = &mut self.shards;
        let found = own.pop();
        let found = found.or_else(|| others.iter_mut().find_map(|other| own.pop_from(other)));
        found.ok_or_else(|| {
            let peak_before = self.totals.peak;
            self.totals.misses = self.totals.misses.wrapping_add(1);
            self.totals.peak = peak_before.max(self.totals.existing());
            Miss {
                number: self.totals.misses,
                peak_before,
            }
        })
    }

    pub(super) fn push(
        mut self,
        item: T,
        by: ReturnedBy,
        budget: &Budget,
        size: usize,
    ) -> Result<(), (T, Refusal)> {
        let (quota, depth) = (self.quota(), self.depth());
        if quota <= depth {
            let [own, ..] = &mut self.shards;
            if self.totals.limit <= depth {
                own.count_return(by);
                self.totals.count_freed(Reason::Discarded, 1);
                return Err((item, Refusal::Full));
            }
            let wanted = self.totals.limit.saturating_sub(quota);
            let granted = budget.grant_quota(wanted, size);
            if granted == 0 {
                return Err((item, Refusal::NoQuota));
            }
            own.quota = own.quota.saturating_add(granted);
        }
        self.rebalance();
        let [own, ..] = &mut self.shards;
        own.push(item, by);
        Ok(())
    }

    /// Redistributes the unused quota: at least half of it to this thread's shard, the rest to the others, so
    /// that their next return does not have to take all locks.
    fn rebalance(&mut self) {
        let unused = self.quota().saturating_sub(self.depth());
        let [own, others @ ..] = &mut self.shards;
        let share = unused / (2 * SHARDS);
        let mut rest = unused;
        for shard in others {
            shard.quota = shard.depth().saturating_add(share);
            rest = rest.saturating_sub(share);
        }
        own.quota = own.depth().saturating_add(rest);
    }

    /// Takes back unused quota for up to `count` items. Returns for how many.
    pub(super) fn reclaim_quota(&mut self, count: usize) -> usize {
        let mut left = count;
        for shard in &mut self.shards {
            let unused = shard.quota.saturating_sub(shard.depth()).min(left);
            shard.quota = shard.quota.saturating_sub(unused);
            left = left.saturating_sub(unused);
        }
        count.saturating_sub(left)
    }

    pub(super) fn evict(&mut self, count: usize, victims: Victims, reason: Reason) -> Evicted<T> {
        let mut items = Batch::default();
        let mut evicted = 0_usize;
        for shard in &mut self.shards {
            let left = count.saturating_sub(evicted).min(shard.count(victims));
            evicted = evicted.saturating_add(shard.evict(left, &mut items));
        }
        self.totals.count_freed(reason, evicted as u64);
        Evicted {
            items,
            count: evicted,
        }
    }

    /// How many items the shards may keep together.
    pub(super) fn quota(&self) -> usize {
        let quotas = self.shards.iter().map(|shard| shard.quota);
        quotas.fold(0, usize::saturating_add)
    }

    pub(super) fn depth(&self) -> usize {
        let depths = self.shards.iter().map(|shard| shard.depth());
        depths.fold(0, usize::saturating_add)
    }

    /// Hits have no counter of their own: every item that was returned, not freed, and is not idle was hit.
    fn hits(&self) -> u64 {
        let idle = self.depth() as u64;
        let returned = self.sum(|shard| shard.returned);
        returned
            .wrapping_sub(self.totals.all_freed())
            .wrapping_sub(idle)
    }

    pub(super) fn sum(&self, counter: impl Fn(&Shard<T>) -> u64) -> u64 {
        let counters = self.shards.iter().map(|shard| counter(shard));
        counters.fold(0, u64::wrapping_add)
    }

    pub(super) fn stats(&self, size: usize) -> BucketStats {
        let Totals {
            limit,
            misses,
            peak,
            ..
        } = *self.totals;
        BucketStats {
            size,
            hits: self.hits(),
            misses,
            returned: self.sum(|shard| shard.returned),
            discarded: self.totals.freed(Reason::Discarded),
            capped: self.totals.freed(Reason::Capped),
            trimmed: self.totals.freed(Reason::Trimmed),
            decayed: self.totals.freed(Reason::Decayed),
            closed: self.totals.freed(Reason::Closed),
            depth: self.depth(),
            // Every idle item was in use before, all of them together at the last miss.
            peak_depth: usize::try_from(peak).map_or(limit, |peak| peak.min(limit)),
            peak_outstanding: peak,
        }
    }
}
