//! What is out, however it holds its pool.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytepool::{Buffer, Pool};

/// Bytes that are out, all of them with the stamp of this loan, and what they cost.
pub struct Loan<B> {
    pub bytes: B,
    pub stamp: u8,
    pub cost: usize,
}

impl<B: DerefMut<Target = [u8]>> Loan<B> {
    pub fn check(&self) {
        assert_eq!(odd(&self.bytes, self.stamp), None, "changed while out");
    }
}

pub enum Lent<'a> {
    Borrowed(Buffer<&'a Pool>),
    Owned(Buffer<Arc<Pool>>),
}

impl Deref for Lent<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(buffer) => buffer,
            Self::Owned(buffer) => buffer,
        }
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Borrowed(buffer) => buffer,
            Self::Owned(buffer) => buffer,
        }
    }
}

/// Where the first byte stands that is another one. As fast as memory can be compared.
pub fn odd(bytes: &[u8], expected: u8) -> Option<usize> {
    let page = [expected; 4096];
    let mut pages = bytes.chunks(page.len());
    if pages.all(|chunk| *chunk == page[..chunk.len()]) {
        return None;
    }
    bytes.iter().position(|&byte| byte != expected)
}
