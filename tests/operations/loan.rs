//! Buffers in use, borrowed from their pool or owning a share of it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytepool::{Buffer, Pool};

/// A buffer in use whose bytes all have the same stamp, and what it costs.
pub struct Loan<B> {
    pub bytes: B,
    pub stamp: u8,
    pub cost: usize,
}

impl<B: DerefMut<Target = [u8]>> Loan<B> {
    pub fn check(&self) {
        assert_eq!(
            first_other_than(&self.bytes, self.stamp),
            None,
            "changed while in use"
        );
    }
}

pub enum Held<'a> {
    Borrowed(Buffer<&'a Pool>),
    Owned(Buffer<Arc<Pool>>),
}

impl Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(buffer) => buffer,
            Self::Owned(buffer) => buffer,
        }
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Borrowed(buffer) => buffer,
            Self::Owned(buffer) => buffer,
        }
    }
}

/// The offset of the first byte with another value. As fast as a comparison of memory.
pub fn first_other_than(bytes: &[u8], expected: u8) -> Option<usize> {
    let page = [expected; 4096];
    let mut pages = bytes.chunks(page.len());
    if pages.all(|chunk| *chunk == page[..chunk.len()]) {
        return None;
    }
    bytes.iter().position(|&byte| byte != expected)
}
