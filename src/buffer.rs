//! A buffer in use. Dropping it is the only way to return it.

use std::fmt;
use std::hint;
use std::ops::{Deref, DerefMut};
#[cfg(feature = "python")]
use std::ptr;

use crate::config::{Config, Zero};
use crate::error::Error;
use crate::stats::ReturnedBy;
use crate::storage::Storage;

/// The byte that fills idle memory of a pool with `poison`: neither text nor a likely number.
const POISON: u8 = 0xDB;

/// The index of the size class that a buffer belongs to. No class has the index `TRANSIENT`.
pub type Class = usize;

pub(crate) const TRANSIENT: Class = usize::MAX;

/// The part of a pool that its buffers need. Every pointer to a pool implements it.
pub trait Lender {
    #[doc(hidden)]
    fn config(&self) -> &Config;

    /// Whether reused buffers have to be prepared.
    #[doc(hidden)]
    fn prepares(&self) -> bool;

    /// Whether returned buffers have to be wiped.
    #[doc(hidden)]
    fn wipes(&self) -> bool;

    /// Takes the memory of a dropped buffer back.
    #[doc(hidden)]
    fn give_back(&self, storage: Storage, class: Class, by: ReturnedBy);
}

/// Bytes on loan from a [`Pool`](crate::Pool). It dereferences to a slice of exactly the requested length, and
/// returns to the pool when it is dropped.
///
/// Fresh memory is zeroed. Reused memory holds old bytes, unless the pool's [`Zero`] setting says otherwise.
/// `L` is the buffer's pointer to its pool: a reference ([`acquire`](crate::Pool::acquire)) or an `Arc`
/// ([`acquire_owned`](crate::Pool::acquire_owned)).
///
/// ```compile_fail,E0505
/// let pool = bytepool::Pool::null();
/// let buffer = pool.acquire(10).unwrap();
/// let bytes = &buffer[..];
/// drop(buffer);
/// println!("{bytes:?}"); // use after release does not compile
/// ```
pub struct Buffer<L: Lender> {
    /// As long as the capacity of the size class. `None` only while the buffer is being dropped.
    storage: Option<Storage>,
    len: usize,
    class: Class,
    lender: L,
    by: ReturnedBy,
    wiped: bool,
}

/// A buffer that was just lent.
pub(crate) enum Lent<L: Lender> {
    Ready(Buffer<L>),
    /// Reused memory that has to be prepared before its holder sees it.
    Unprepared(Buffer<L>),
}

impl<L: Lender> Lent<L> {
    /// The buffer, prepared if it has to be.
    #[inline]
    pub(crate) fn prepared(self) -> Result<Buffer<L>, Error> {
        match self {
            Self::Ready(buffer) => Ok(buffer),
            Self::Unprepared(buffer) => buffer.prepared(),
        }
    }
}

impl<L: Lender> Buffer<L> {
    #[inline]
    pub(crate) fn new(storage: Storage, class: Class, len: usize, lender: L) -> Self {
        Self {
            storage: Some(storage),
            len,
            class,
            lender,
            by: ReturnedBy::Release,
            wiped: false,
        }
    }

    #[inline]
    pub(crate) fn prepares(&self) -> bool {
        self.lender.prepares()
    }

    #[cold]
    #[inline(never)]
    fn prepared(mut self) -> Result<Self, Error> {
        self.prepare()?;
        Ok(self)
    }

    /// Prepares reused memory for its next holder, as the pool is configured: checks that it was not
    /// written to while it was idle, and zeroes the bytes that the holder sees.
    #[cold]
    pub(crate) fn prepare(&mut self) -> Result<(), Error> {
        let Config { poison, zero, .. } = *self.lender.config();
        if let Some(storage) = self.storage.as_ref().filter(|_| poison) {
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

    /// Overwrites the bytes that the holder saw, as the pool is configured. Nobody may use the buffer after
    /// that.
    #[cold]
    pub(crate) fn wipe(&mut self) {
        if self.lender.config().poison {
            // The whole capacity, so that the next check need not know how much was in use.
            if let Some(storage) = &mut self.storage {
                storage.fill(POISON);
            }
        } else {
            self.fill(0);
        }
        self.wiped = true;
        // Keeps the compiler from leaving the write out when it sees that the memory is freed next.
        hint::black_box(&mut self.storage);
    }
}

/// For the Python lease, which shares the bytes with their views by raw pointer.
#[cfg(feature = "python")]
impl<L: Lender> Buffer<L> {
    /// The address of the bytes. It stays the same as long as the buffer lives, even if the buffer moves.
    /// Nobody may touch the bytes through the buffer while others use the pointer.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        let storage = self.storage.as_mut();
        storage.map_or(ptr::null_mut(), Storage::as_mut_ptr)
    }

    /// The capacity of the buffer in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.storage.as_ref().map_or(0, Storage::len)
    }

    /// The requested size, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether dropping the buffer counts as a release.
    pub(crate) fn set_returned_by(&mut self, by: ReturnedBy) {
        self.by = by;
    }

    pub(crate) fn lender(&self) -> &L {
        &self.lender
    }
}

impl<L: Lender> Drop for Buffer<L> {
    #[inline]
    fn drop(&mut self) {
        if self.lender.wipes() && !self.wiped {
            self.wipe();
        }
        if let Some(storage) = self.storage.take() {
            self.lender.give_back(storage, self.class, self.by);
        }
    }
}

impl<L: Lender> Deref for Buffer<L> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let storage = self.storage.as_deref().unwrap_or_default();
        storage.get(..self.len).unwrap_or_default()
    }
}

impl<L: Lender> DerefMut for Buffer<L> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let storage = self.storage.as_deref_mut().unwrap_or_default();
        storage.get_mut(..self.len).unwrap_or_default()
    }
}

impl<L: Lender> AsRef<[u8]> for Buffer<L> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<L: Lender> AsMut<[u8]> for Buffer<L> {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl<L: Lender> fmt::Debug for Buffer<L> {
    /// Shows no contents: they may be large or secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::pool::Pool;

    #[test]
    fn with_zero_and_poison_the_next_holder_sees_zeros() {
        for zero in [Zero::Release, Zero::Allocate] {
            let pool = Pool::new(Config {
                poison: true,
                zero,
                ..Config::DEFAULT
            })
            .unwrap();
            pool.acquire(100).unwrap().fill(7);
            assert_eq!(pool.acquire(100).unwrap()[..], [0; 100]);
        }
    }
}
