//! Taking buffers back: they are kept, handed to a waiter, or freed.

use std::ops::Deref;

use super::Pool;
use crate::bucket::{Bucket, Pushed, Refusal};
use crate::buffer::{Class, Lender};
use crate::config::Config;
use crate::stats::{Reason, ReturnedBy};
use crate::storage::Storage;

impl<P: Deref<Target = Pool>> Lender for P {
    fn config(&self) -> &Config {
        &self.config
    }

    #[inline]
    fn prepares(&self) -> bool {
        self.prepares
    }

    #[inline]
    fn wipes(&self) -> bool {
        self.wipes
    }

    #[inline]
    fn give_back(&self, storage: Storage, class: Class, by: ReturnedBy) {
        let pool: &Pool = self;
        let Some(bucket) = pool.buckets.get(class) else {
            return pool.free_transient(storage, by);
        };
        match bucket.push(storage, by) {
            Pushed::Kept => {}
            Pushed::KeptAndDecayDue => pool.decay_in_passing(),
            Pushed::Refused(storage) => pool.give_back_slow(bucket, storage, by),
        }
    }
}

impl Pool {
    /// A pool that is used decays without a timer.
    #[cold]
    #[inline(never)]
    fn decay_in_passing(&self) {
        self.decay();
    }

    /// Takes back a buffer for which this thread's shard has no quota.
    #[cold]
    #[inline(never)]
    fn give_back_slow(&self, bucket: &Bucket<Storage>, storage: Storage, by: ReturnedBy) {
        let refused = match bucket.push_slow(storage, by, &self.budget) {
            Ok(()) => return,
            Err((storage, Refusal::Full)) => Some(storage),
            Err((storage, Refusal::NoQuota)) => self.keep_or_hand_on(bucket, storage, by),
        };
        if refused.is_some() {
            (self.free)(&mut [refused]);
            self.budget.release(bucket.size());
        }
    }

    /// Hands the buffer to a waiter, or evicts others to keep it. Otherwise it is handed back, to be freed.
    fn keep_or_hand_on(
        &self,
        bucket: &Bucket<Storage>,
        storage: Storage,
        by: ReturnedBy,
    ) -> Option<Storage> {
        let storage = match self.budget.hand_to_waiter(storage) {
            Ok(wake) => {
                bucket.count_return(by, None);
                if let Some(wake) = wake {
                    wake.call();
                }
                return None;
            }
            Err(storage) => storage,
        };
        let reason = if self.budget.is_closed() {
            Reason::Closed
        } else {
            Reason::Capped
        };
        if !self.reclaim_quota(bucket.size()) {
            bucket.count_return(by, Some(reason));
            return Some(storage);
        }
        match bucket.push_slow(storage, by, &self.budget) {
            Ok(()) => None,
            Err((storage, Refusal::Full)) => Some(storage),
            Err((storage, Refusal::NoQuota)) => {
                // Another thread took the reclaimed quota.
                bucket.count_return(by, Some(reason));
                Some(storage)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn free_transient(&self, storage: Storage, by: ReturnedBy) {
        let size = storage.len();
        (self.free)(&mut [Some(storage)]);
        self.transient.outstanding.sub(1);
        self.transient.outstanding_bytes.sub(size as u64);
        if by == ReturnedBy::Drop {
            self.transient.dropped.count();
        }
        self.budget.release(size);
    }

    #[cfg(feature = "python")]
    pub(crate) fn begin_deferral(&self, bytes: usize) {
        self.deferred.count();
        self.deferred_bytes.add(bytes as u64);
    }

    #[cfg(feature = "python")]
    pub(crate) fn end_deferral(&self, bytes: usize) {
        self.deferred_bytes.sub(bytes as u64);
    }
}
