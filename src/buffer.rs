//! A buffer on loan. Its `Drop` is the only way home.

use std::fmt;
use std::hint;
use std::ops::{Deref, DerefMut};
#[cfg(feature = "python")]
use std::ptr;

use crate::config::{Config, Zero};
use crate::error::Error;
use crate::pool::Pool;
use crate::storage::Storage;

/// What idle memory is filled with, if the pool was told so: a byte that is neither text nor a likely number.
const POISON: u8 = 0xDB;

/// Bytes on loan from a [`Pool`]: dereferences to a slice of exactly the length asked
/// for, and goes home when it is dropped.
///
/// Fresh memory is zeroed; reused memory holds old bytes, unless the pool is told to [`Zero`] it. `P` is how it holds its pool: by reference
/// ([`acquire`](Pool::acquire)) or with a share of it ([`acquire_owned`](Pool::acquire_owned)).
///
/// ```compile_fail,E0505
/// let pool = bytepool::Pool::null();
/// let buffer = pool.acquire(10).unwrap();
/// let bytes = &buffer[..];
/// drop(buffer);
/// println!("{bytes:?}"); // use after release does not compile
/// ```
pub struct Buffer<P: Deref<Target = Pool>> {
    /// As long as the size class's capacity. `None` only while this is dropped.
    storage: Option<Storage>,
    len: usize,
    pool: P,
    dropped: bool,
}

impl<P: Deref<Target = Pool>> Buffer<P> {
    #[inline]
    pub(crate) fn new(storage: Storage, len: usize, pool: P) -> Self {
        Self {
            storage: Some(storage),
            len,
            pool,
            dropped: false,
        }
    }

    /// Makes reused memory fit for the next user: checks that nobody wrote to it while it was idle, if the
    /// pool was told to, and zeroes what the user sees of it, if the pool was told to.
    #[cold]
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        let Config { poison, zero, .. } = self.pool.config;
        if poison && let Some(storage) = &self.storage {
            let written = storage.iter().position(|&byte| byte != POISON);
            if let Some(offset) = written {
                return Err(Error::Overwritten {
                    size: storage.len(),
                    offset,
                });
            }
        }
        if zero == Zero::Allocate || (poison && zero == Zero::Release) {
            self.fill(0);
        }
        Ok(())
    }

    /// Wipes out what the user saw of it, which nobody sees after that. Nothing else was written to.
    #[cold]
    pub(crate) fn wipe(&mut self) {
        if self.pool.config.poison {
            // All of it, so that it can be checked from end to end whoever used how much of it.
            if let Some(storage) = &mut self.storage {
                storage.fill(POISON);
            }
        } else {
            self.fill(0);
        }
        self.len = 0;
        // Not even a compiler that sees the memory freed next may leave this out.
        hint::black_box(&mut self.storage);
    }
}

/// For the Python lease, which shares the bytes by raw pointer with those who see them.
#[cfg(feature = "python")]
impl<P: Deref<Target = Pool>> Buffer<P> {
    /// Where the bytes are, as long as this lives, wherever it is moved. As long as others may use
    /// the pointer, nobody may touch the bytes through this.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        let storage = self.storage.as_mut();
        storage.map_or(ptr::null_mut(), Storage::as_mut_ptr)
    }

    /// The bytes that it costs.
    pub(crate) fn capacity(&self) -> usize {
        self.storage.as_ref().map_or(0, Storage::len)
    }

    /// The bytes that were asked for.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Has this drop counted as one without a release.
    pub(crate) fn mark_dropped(&mut self) {
        self.dropped = true;
    }

    /// Where it came from.
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }
}

impl<P: Deref<Target = Pool>> Drop for Buffer<P> {
    #[inline]
    fn drop(&mut self) {
        if self.pool.wipes() {
            self.wipe();
        }
        if let Some(storage) = self.storage.take() {
            self.pool.give_back(storage, self.dropped);
        }
    }
}

impl<P: Deref<Target = Pool>> Deref for Buffer<P> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let storage = self.storage.as_deref().unwrap_or_default();
        storage.get(..self.len).unwrap_or_default()
    }
}

impl<P: Deref<Target = Pool>> DerefMut for Buffer<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let storage = self.storage.as_deref_mut().unwrap_or_default();
        storage.get_mut(..self.len).unwrap_or_default()
    }
}

impl<P: Deref<Target = Pool>> AsRef<[u8]> for Buffer<P> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<P: Deref<Target = Pool>> AsMut<[u8]> for Buffer<P> {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<P: Deref<Target = Pool>> fmt::Debug for Buffer<P> {
    /// Without the contents, which may be large or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::thread;

    use super::Buffer;
    use crate::config::Config;
    use crate::pool::Pool;

    /// Takes another buffer while the thread's locals are being torn down.
    struct Last(Arc<Pool>, Option<Buffer<Arc<Pool>>>);

    impl Drop for Last {
        fn drop(&mut self) {
            drop(self.1.take());
            drop(self.0.acquire(100).unwrap());
        }
    }

    thread_local! {
        static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
    }

    #[test]
    fn buffers_go_home_while_a_threads_locals_are_torn_down() {
        let pool = Arc::new(Pool::new(Config::default()).unwrap());
        let theirs = Arc::clone(&pool);
        let work = thread::spawn(move || {
            let buffer = Pool::acquire_owned(&theirs, 5000).unwrap();
            LAST.set(Some(Last(theirs, Some(buffer))));
        });
        work.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.outstanding, stats.buckets.len()), (0, 2));
        assert!(stats.buckets.iter().all(|bucket| bucket.depth == 1));
    }

    #[test]
    fn a_thread_that_panics_gives_its_buffers_back_and_harms_no_other() {
        let pool = Arc::new(Pool::new(Config::default()).unwrap());
        let theirs = Arc::clone(&pool);
        let work = thread::spawn(move || {
            let _buffer = theirs.acquire(5000).unwrap();
            panic!("on purpose");
        });
        work.join().unwrap_err();
        assert_eq!(pool.stats().outstanding, 0);
        drop(pool.acquire(5000).unwrap());
        assert_eq!(pool.stats().buckets[0].hits, 1);
    }
}
