//! A buffer on loan. Its `Drop` is the only way home.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

use crate::pool::Pool;

/// Bytes on loan from a [`Pool`]: dereferences to a slice of exactly the length asked
/// for, and goes home when it is dropped.
///
/// Fresh memory is zeroed; reused memory holds old bytes. `P` is how it holds its pool: by reference
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
    /// As long as the size class's capacity; empty while `detach`ed.
    storage: Box<[u8]>,
    len: usize,
    pool: P,
    dropped: bool,
}

impl<P: Deref<Target = Pool>> Buffer<P> {
    #[inline]
    pub(crate) fn new(storage: Box<[u8]>, len: usize, pool: P) -> Self {
        Self {
            storage,
            len,
            pool,
            dropped: false,
        }
    }
}

/// For the Python lease, which must own the memory by raw pointer while others see it.
#[cfg(feature = "python")]
impl<P: Deref<Target = Pool>> Buffer<P> {
    /// Takes the storage out; `attach` must put the same box back before the drop.
    pub(crate) fn detach(&mut self) -> Box<[u8]> {
        mem::take(&mut self.storage)
    }

    /// Puts back what `detach` took.
    pub(crate) fn attach(&mut self, storage: Box<[u8]>) {
        self.storage = storage;
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
        self.pool
            .give_back(mem::take(&mut self.storage), self.dropped);
    }
}

impl<P: Deref<Target = Pool>> Deref for Buffer<P> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.storage.get(..self.len).unwrap_or_default()
    }
}

impl<P: Deref<Target = Pool>> DerefMut for Buffer<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.storage.get_mut(..self.len).unwrap_or_default()
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
    use crate::pool::{Config, Pool};

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
