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
        let changed = self.bytes.iter().position(|&byte| byte != self.stamp);
        assert_eq!(changed, None, "changed while out");
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
