//! The memory of one buffer: where it comes from, and where it goes.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::error::Error;

/// From so many bytes on, pooled memory is a mapping of its own, which goes back to the system when it
/// is freed. What is smaller comes from the allocator, which may keep it, and pays no system calls.
const MAPPED: usize = 64 << 10;

/// A huge page. The first use of memory is several times as fast where it can have them whole.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes on their own. They stay where they are as long as this lives, and are freed with it.
///
/// One pointer, for it is moved about a lot: into a shelf, out of it, into a lease.
#[derive(Debug)]
pub(crate) struct Storage(Box<[Block; 1]>);

#[derive(Debug)]
struct Block {
    len: usize,
    memory: Memory,
}

/// A `Vec` and not a boxed slice, because what points to the bytes stays valid while this is moved:
/// moving a `Vec` does not touch what it owns, and moving a `Box` claims to own it alone.
#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Storage {
    /// Memory that can be given back to the system. Zeroed. `used`: how much of it is wanted now.
    pub(crate) fn new(size: usize, used: usize) -> Result<Self, Error> {
        if size < MAPPED {
            return Self::plain(size);
        }
        let Ok(mapping) = MmapMut::map_anon(size) else {
            // There may be memory and only no mapping: a process has 65,530 of them.
            return Self::plain(size);
        };
        #[cfg(target_os = "linux")]
        {
            // Only those that are filled for the most part: a few bytes of one cost all of it. If there
            // are none to be had, it works as well.
            let filled = used.saturating_add(HUGE_PAGE / 4) / HUGE_PAGE;
            let huge = filled.min(size / HUGE_PAGE).saturating_mul(HUGE_PAGE);
            if huge > 0 {
                let _ = mapping.advise_range(memmap2::Advice::HugePage, 0, huge);
            }
        }
        Self::with(size, Memory::Mapped(mapping))
    }

    /// Memory of the allocator's. Zeroed by the system where it can be (large blocks are fresh pages),
    /// and an error where `vec!` would abort the process.
    pub(crate) fn plain(size: usize) -> Result<Self, Error> {
        let memory = bytemuck::allocation::try_zeroed_vec(size);
        let memory = memory.map_err(|()| Error::OutOfMemory { requested: size })?;
        Self::with(size, Memory::Heap(memory))
    }

    /// `Box::new`, but an error where that would abort the process.
    fn with(len: usize, memory: Memory) -> Result<Self, Error> {
        let out_of_memory = Error::OutOfMemory {
            requested: size_of::<Block>(),
        };
        let mut block = Vec::new();
        let Ok(()) = block.try_reserve_exact(1) else {
            return Err(out_of_memory);
        };
        block.push(Block { len, memory });
        let block = block.into_boxed_slice().try_into();
        block.map(Self).map_err(|_| out_of_memory)
    }

    fn block(&self) -> &Block {
        let [block] = &*self.0;
        block
    }

    fn memory(&mut self) -> &mut Memory {
        let [block] = &mut *self.0;
        &mut block.memory
    }

    /// Where the bytes are.
    #[cfg(feature = "python")]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match self.memory() {
            Memory::Heap(bytes) => bytes.as_mut_ptr(),
            Memory::Mapped(bytes) => bytes.as_mut_ptr(),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.block().len
    }
}

impl Deref for Storage {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.block().memory {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(bytes) => bytes,
        }
    }
}

impl DerefMut for Storage {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.memory() {
            Memory::Heap(bytes) => bytes,
            Memory::Mapped(bytes) => bytes,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn large_memory_has_a_mapping_of_its_own_and_all_is_zeroed() {
        for size in [0, 1, MAPPED - 1, MAPPED, HUGE_PAGE + 1, 3 * HUGE_PAGE] {
            for used in [size, size / 2, 0] {
                let storage = Storage::new(size, used).unwrap();
                assert!(storage.iter().all(|&byte| byte == 0));
            }
            let new = Storage::new(size, size).unwrap();
            for mut storage in [new, Storage::plain(size).unwrap()] {
                assert_eq!(storage.len(), size);
                assert!(storage.iter().all(|&byte| byte == 0));
                storage.fill(1);
            }
            let mapped = |storage: Storage| matches!(storage.block().memory, Memory::Mapped(_));
            assert_eq!(mapped(Storage::new(size, 0).unwrap()), size >= MAPPED);
            assert!(!mapped(Storage::plain(size).unwrap()));
        }
    }

    #[test]
    fn it_is_one_pointer() {
        assert_eq!(size_of::<Option<Storage>>(), size_of::<usize>());
    }
}
