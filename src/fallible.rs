//! Small allocations that can fail. `Box::new` and `vec!` would abort the process.

use allocator_api2::boxed::Box;

use crate::error::Error;

/// Moves a value to the heap.
pub(crate) fn boxed<T>(value: T) -> Result<Box<T>, Error> {
    Box::try_new(value).map_err(|_| out_of_memory(size_of::<T>()))
}

/// An empty list with space for `count` items.
pub(crate) fn list<T>(count: usize) -> Result<Vec<T>, Error> {
    let mut list = Vec::new();
    let reserved = list.try_reserve_exact(count);
    reserved.map_err(|_| out_of_memory(count.saturating_mul(size_of::<T>())))?;
    Ok(list)
}

/// So many zeros.
#[cfg(feature = "python")]
pub(crate) fn zeros(count: usize) -> Result<Vec<u8>, Error> {
    let zeros = bytemuck::allocation::try_zeroed_vec(count);
    zeros.map_err(|()| out_of_memory(count))
}

/// A copy of the bytes.
#[cfg(feature = "python")]
pub(crate) fn copy(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut copy = list(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

fn out_of_memory(requested: usize) -> Error {
    Error::OutOfMemory { requested }
}
