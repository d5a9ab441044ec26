//! No pool: fresh memory from the binary's allocator.

use super::Contender;

pub struct VecZeroed;

impl Contender for VecZeroed {
    const NAME: &'static str = crate::VEC_ZEROED;
    type Buffer<'a> = Vec<u8>;

    fn with_capacity(_: usize) -> Self {
        Self
    }

    fn take(&self, n: usize) -> Vec<u8> {
        vec![0; n]
    }

    fn fill(buffer: &mut Vec<u8>, _: usize, byte: u8) {
        buffer.fill(byte);
    }
}

/// Reserved and not zeroed. It is filled by growing.
pub struct VecReserved;

impl Contender for VecReserved {
    const NAME: &'static str = crate::VEC_RESERVED;
    type Buffer<'a> = Vec<u8>;

    fn with_capacity(_: usize) -> Self {
        Self
    }

    fn take(&self, n: usize) -> Vec<u8> {
        Vec::with_capacity(n)
    }

    fn fill(buffer: &mut Vec<u8>, n: usize, byte: u8) {
        buffer.resize(n, byte);
    }
}
