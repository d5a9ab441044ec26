//! The memory of one buffer: allocated by the allocator or mapped, and freed on drop.

use std::ops::{Deref, DerefMut};

use allocator_api2::boxed::Box;
use memmap2::MmapMut;

use crate::error::Error;
use crate::fallible::boxed;
use crate::malloc::expect_large_blocks;
use crate::sync::ProcessCount;

/// Memory of this many bytes and more begins at a page, which direct file access (`O_DIRECT`) needs.
const PAGE: usize = 4 << 10;

/// Smaller memory begins at a cache line.
const CACHE_LINE: usize = 64;

/// How many mappings all pools of the process have at most. Linux allows a process 65,530, and one of these can
/// count as two, because a part of it has huge pages. At the system's limit `munmap` fails to free a mapping
/// between two others, and no thread can start.
const MAX_MAPPINGS: usize = 30_000;

static MAPPINGS: ProcessCount = ProcessCount::new();

/// The bytes of memory that would be mapped if there were not so many mappings: in use, and freed since the
/// allocator was last told to return memory.
static UNMAPPED: ProcessCount = ProcessCount::new();
static UNMAPPED_FREED: ProcessCount = ProcessCount::new();

/// The allocator may keep as much freed memory as is in use, or this many bytes.
#[cfg(feature = "python")]
const MAY_KEEP: usize = 64 << 20;

/// Pooled memory of this many bytes and more is a mapping of its own, which is unmapped when it is freed.
/// Smaller memory comes from the allocator: freed memory may stay in the process, but costs no system call.
const MAPPED: usize = 64 << 10;

/// The size of a huge page. Memory that can have whole huge pages is several times faster on first use.
const HUGE_PAGE: usize = 2 << 20;

/// Owned bytes. Their address stays the same when the `Storage` moves.
///
/// It is one pointer in size because it moves often: into a shard, out of it, into a lease.
#[derive(Debug)]
pub struct Storage(Box<Block>);

#[derive(Debug)]
struct Block {
    len: usize,
    memory: Memory,
}

/// A `Vec` and not a boxed slice: moving a `Box` asserts unique access to its bytes, which would invalidate
/// the pointers that views hold. Moving a `Vec` does not.
#[derive(Debug)]
enum Memory {
    /// The bytes begin at the offset, which aligns them.
    Heap(Vec<u8>, usize),
    /// The same, but memory that would be mapped if there were not so many mappings.
    Unmapped(CountedBytes, usize),
    /// The same for a mapping.
    Mapped(MmapMut, usize, Counted),
}

/// Counts memory that would be mapped, and that it was freed.
#[derive(Debug)]
struct CountedBytes(Vec<u8>);

impl CountedBytes {
    fn new(bytes: Vec<u8>) -> Self {
        UNMAPPED.add(bytes.len());
        Self(bytes)
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        UNMAPPED.subtract(self.0.len());
        UNMAPPED_FREED.add(self.0.len());
    }
}

/// Counts a mapping. Dropped after it.
#[derive(Debug)]
struct Counted;

impl Counted {
    fn new() -> Option<Self> {
        MAPPINGS.add_below(MAX_MAPPINGS).then(|| Self)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        MAPPINGS.subtract(1);
    }
}

/// Whether the allocator should now return free memory to the system. Then the caller has to see to it.
///
/// The allocator may keep what is freed below a small block in use. Memory of pools is told to return only if it is
/// not mapped, and only when more of it was freed than is in use, because to return it takes a system call for each
/// part of it.
#[cfg(feature = "python")]
pub(crate) fn allocator_should_return_memory() -> bool {
    UNMAPPED_FREED.get() >= UNMAPPED.get().max(MAY_KEEP) && UNMAPPED_FREED.take() > 0
}

/// Frees memory that left a pool. No lock is held when it is called.
pub(crate) type Free = fn(&mut [Option<Storage>]);

/// The default function with which a pool frees memory.
pub(crate) fn free(storages: &mut [Option<Storage>]) {
    storages.fill_with(|| None);
}

impl Storage {
    /// Zeroed memory for a pooled buffer of `size` bytes, of which `used` are requested now.
    pub(crate) fn new(size: usize, used: usize) -> Result<Self, Error> {
        if size < MAPPED {
            return Self::heap(size);
        }
        let Some(counted) = Counted::new() else {
            return Self::unmapped(size);
        };
        let Some((mapping, offset)) = map(size, used) else {
            // Other code may have used up the mappings. Then there may be memory all the same.
            return Self::unmapped(size);
        };
        Self::with(size, Memory::Mapped(mapping, offset, counted))
    }

    /// Zeroed memory from the allocator. Where `vec!` would abort the process, this is an error.
    pub(crate) fn heap(size: usize) -> Result<Self, Error> {
        let (memory, offset) = allocate(size)?;
        Self::with(size, Memory::Heap(memory, offset))
    }

    /// The same for memory that cannot be mapped.
    #[cold]
    fn unmapped(size: usize) -> Result<Self, Error> {
        // Else the allocator maps it, too.
        expect_large_blocks(size);
        let (memory, offset) = allocate(size)?;
        Self::with(size, Memory::Unmapped(CountedBytes::new(memory), offset))
    }

    fn with(len: usize, memory: Memory) -> Result<Self, Error> {
        boxed(Block { len, memory }).map(Self)
    }

    fn block(&self) -> &Block {
        &self.0
    }

    fn block_mut(&mut self) -> &mut Block {
        &mut self.0
    }

    /// The address of the bytes.
    #[cfg(feature = "python")]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        match &mut self.block_mut().memory {
            Memory::Heap(bytes, offset) | Memory::Unmapped(CountedBytes(bytes), offset) => {
                bytes.as_mut_ptr().wrapping_add(*offset)
            }
            Memory::Mapped(bytes, offset, _) => bytes.as_mut_ptr().wrapping_add(*offset),
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.block().len
    }

    #[cfg(test)]
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.block().memory, Memory::Mapped(..))
    }
}

/// A mapping, and the offset from which on there are `size` bytes in it.
fn map(size: usize, used: usize) -> Option<(MmapMut, usize)> {
    // Only for huge pages of which the request fills half: one byte costs the whole page.
    let filled = used.saturating_add(HUGE_PAGE / 2) / HUGE_PAGE;
    let huge = filled.min(size / HUGE_PAGE).saturating_mul(HUGE_PAGE);
    if huge == 0 || !cfg!(target_os = "linux") {
        return Some((MmapMut::map_anon(size).ok()?, 0));
    }
    // A huge page begins at a multiple of its size. No memory is behind bytes that are not touched.
    let length = size.checked_add(HUGE_PAGE)?;
    isize::try_from(length).ok()?; // the error of `map_anon` would be allocated
    let mapping = MmapMut::map_anon(length).ok()?;
    let offset = mapping.as_ptr().align_offset(HUGE_PAGE);
    // From the start on, so that the mapping counts as two at most. If the system has no huge pages, normal pages work as
    // well.
    #[cfg(target_os = "linux")]
    let _ = mapping.advise_range(memmap2::Advice::HugePage, 0, offset.saturating_add(huge));
    Some((mapping, offset))
}

/// Zeroed bytes, and the offset from which on there are `size` aligned ones.
fn allocate(size: usize) -> Result<(Vec<u8>, usize), Error> {
    let align = if size < PAGE { CACHE_LINE } else { PAGE };
    // An aligned allocation would write zeros into memory that the system has zeroed already.
    let memory = size.checked_add(align).ok_or(());
    let memory: Result<Vec<u8>, _> = memory.and_then(bytemuck::allocation::try_zeroed_vec);
    let memory = memory.map_err(|()| Error::OutOfMemory { requested: size })?;
    let offset = memory.as_ptr().align_offset(align);
    Ok((memory, offset))
}

impl Deref for Storage {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let Block { len, memory } = self.block();
        match memory {
            Memory::Heap(bytes, offset) | Memory::Unmapped(CountedBytes(bytes), offset) => {
                let bytes = bytes.get(*offset..).unwrap_or_default();
                bytes.get(..*len).unwrap_or_default()
            }
            Memory::Mapped(bytes, offset, _) => {
                let bytes = bytes.get(*offset..).unwrap_or_default();
                bytes.get(..*len).unwrap_or_default()
            }
        }
    }
}

impl DerefMut for Storage {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        let Block { len, memory } = self.block_mut();
        match memory {
            Memory::Heap(bytes, offset) | Memory::Unmapped(CountedBytes(bytes), offset) => {
                let bytes = bytes.get_mut(*offset..).unwrap_or_default();
                bytes.get_mut(..*len).unwrap_or_default()
            }
            Memory::Mapped(bytes, offset, _) => {
                let bytes = bytes.get_mut(*offset..).unwrap_or_default();
                bytes.get_mut(..*len).unwrap_or_default()
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_for_huge_pages_is_aligned_wherever_the_system_places_the_mapping() {
        let size = HUGE_PAGE + HUGE_PAGE / 2;
        let mut storages: Vec<_> = (1..20)
            .map(|pages| {
                let other = MmapMut::map_anon(pages * PAGE).unwrap();
                (Storage::new(size, size).unwrap(), other)
            })
            .collect();
        for (storage, _) in &mut storages {
            assert_eq!(storage.as_ptr().align_offset(HUGE_PAGE), 0);
            storage.fill(1);
            assert_eq!(storage.len(), size);
        }
    }

    #[test]
    fn large_storage_is_mapped_and_all_storage_is_zeroed() {
        for size in [0, 1, MAPPED - 1, MAPPED, HUGE_PAGE + 1, 3 * HUGE_PAGE] {
            for used in [size, size / 2, 0] {
                let storage = Storage::new(size, used).unwrap();
                assert!(storage.iter().all(|&byte| byte == 0));
            }
            let new = Storage::new(size, size).unwrap();
            for mut storage in [new, Storage::heap(size).unwrap()] {
                assert_eq!(storage.len(), size);
                assert!(storage.iter().all(|&byte| byte == 0));
                storage.fill(1);
            }
            assert_eq!(Storage::new(size, 0).unwrap().is_mapped(), size >= MAPPED);
            assert!(!Storage::heap(size).unwrap().is_mapped());
        }
    }

    #[test]
    fn storage_begins_at_a_page_from_4_kib_on_and_at_a_cache_line_below() {
        for size in [
            0,
            1,
            100,
            1024,
            PAGE - 1,
            PAGE,
            PAGE + 1,
            32 << 10,
            MAPPED,
            1 << 20,
        ] {
            let align = if size < PAGE { 64 } else { 4096 };
            let heap = || Storage::heap(size).unwrap();
            let new = || Storage::new(size, size).unwrap();
            let mut all: Vec<_> = (0..10).flat_map(|_| [heap(), new()]).collect();
            for storage in &mut all {
                assert_eq!(storage.as_ptr().addr() % align, 0, "{size}");
                assert_eq!(storage.len(), size);
                storage.fill(7);
            }
        }
    }

    #[test]
    fn storage_is_one_pointer() {
        assert_eq!(size_of::<Option<Storage>>(), size_of::<usize>());
    }
}
