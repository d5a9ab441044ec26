//! This crate and its peers, each used as its documentation shows.

use std::mem::MaybeUninit;
use std::sync::Arc;

use bytepool::{Buffer, Config, Pool};

use crate::contenders::Contender;

/// How many idle buffers per size each pool may keep, where this can be configured.
const KEEP: usize = 64;

pub struct Bytepool(Pool);

impl Contender for Bytepool {
    const NAME: &'static str = "bytepool";
    type Buffer<'a> = Buffer<&'a Pool>;

    fn with_capacity(capacity: usize) -> Self {
        let config = Config {
            min_size: 1 << 10,
            max_size: capacity.max(1 << 10),
            max_buffers: KEEP,
            ..Config::DEFAULT
        };
        Self(Pool::new(config).expect("a valid configuration"))
    }

    fn take(&self, n: usize) -> Buffer<&Pool> {
        self.0.acquire(n).expect("memory")
    }

    fn fill(buffer: &mut Buffer<&Pool>, _: usize, byte: u8) {
        buffer.fill(byte);
    }
}

/// Buffers that own a share of the pool.
pub struct BytepoolOwned(Arc<Pool>);

impl Contender for BytepoolOwned {
    const NAME: &'static str = "bytepool_owned";
    type Buffer<'a> = Buffer<Arc<Pool>>;

    fn with_capacity(capacity: usize) -> Self {
        Self(Arc::new(Bytepool::with_capacity(capacity).0))
    }

    fn take(&self, n: usize) -> Buffer<Arc<Pool>> {
        Pool::acquire_owned(&self.0, n).expect("memory")
    }

    fn fill(buffer: &mut Buffer<Arc<Pool>>, _: usize, byte: u8) {
        buffer.fill(byte);
    }
}

/// Reuses a block only for a request of exactly its size, so round sizes are its best case.
pub struct BytePool(byte_pool::BytePool);

impl Contender for BytePool {
    const NAME: &'static str = "byte-pool";
    type Buffer<'a> = byte_pool::Block<'a>;

    fn with_capacity(_: usize) -> Self {
        Self(byte_pool::BytePool::new())
    }

    fn take(&self, n: usize) -> Self::Buffer<'_> {
        self.0.alloc(n)
    }

    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8) {
        buffer[..n].fill(byte);
    }
}

/// For one thread: its reference count is not atomic.
pub struct Lifeguard(lifeguard::Pool<Recycled>);

pub struct Recycled(Vec<u8>);

impl lifeguard::Recycleable for Recycled {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// Old bytes stay, as in the other pools.
    fn reset(&mut self) {}
}

impl Contender for Lifeguard {
    const NAME: &'static str = "lifeguard";
    type Buffer<'a> = lifeguard::Recycled<'a, Recycled>;

    fn with_capacity(capacity: usize) -> Self {
        let pool = lifeguard::pool()
            .with(lifeguard::StartingSize(0))
            .with(lifeguard::MaxSize(KEEP))
            .with(lifeguard::Supplier(move || Recycled(vec![0; capacity])));
        Self(pool.build())
    }

    fn take(&self, _: usize) -> Self::Buffer<'_> {
        self.0.new()
    }

    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8) {
        buffer.0[..n].fill(byte);
    }
}

pub struct ObjectPool(object_pool::Pool<Vec<u8>>, usize);

impl Contender for ObjectPool {
    const NAME: &'static str = "object-pool";
    type Buffer<'a> = object_pool::Reusable<'a, Vec<u8>>;

    fn with_capacity(capacity: usize) -> Self {
        Self(
            object_pool::Pool::from_vec(Vec::with_capacity(KEEP)),
            capacity,
        )
    }

    fn take(&self, _: usize) -> Self::Buffer<'_> {
        self.0.pull(|| vec![0; self.1])
    }

    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8) {
        buffer[..n].fill(byte);
    }
}

pub struct Zeroed(usize);

impl opool::PoolAllocator<Vec<u8>> for Zeroed {
    fn allocate(&self) -> Vec<u8> {
        vec![0; self.0]
    }
}

pub struct Opool(opool::Pool<Zeroed, Vec<u8>>);

impl Contender for Opool {
    const NAME: &'static str = "opool";
    type Buffer<'a> = opool::RefGuard<'a, Zeroed, Vec<u8>>;

    fn with_capacity(capacity: usize) -> Self {
        Self(opool::Pool::new(KEEP, Zeroed(capacity)))
    }

    fn take(&self, _: usize) -> Self::Buffer<'_> {
        self.0.get()
    }

    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8) {
        buffer[..n].fill(byte);
    }
}

/// opool's pool for one thread.
pub struct OpoolLocal(opool::LocalPool<Zeroed, Vec<u8>>);

impl Contender for OpoolLocal {
    const NAME: &'static str = "opool_local";
    type Buffer<'a> = opool::RefLocalGuard<'a, Zeroed, Vec<u8>>;

    fn with_capacity(capacity: usize) -> Self {
        Self(opool::LocalPool::new(KEEP, Zeroed(capacity)))
    }

    fn take(&self, _: usize) -> Self::Buffer<'_> {
        self.0.get()
    }

    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8) {
        buffer[..n].fill(byte);
    }
}

/// Objects stay in the slab, and are cleared by their keys.
pub struct ShardedSlab(sharded_slab::Pool<Slot>, usize);

#[derive(Default)]
pub struct Slot(Vec<u8>);

impl sharded_slab::Clear for Slot {
    fn clear(&mut self) {}
}

pub struct SlabBuffer<'a> {
    pool: &'a sharded_slab::Pool<Slot>,
    slot: Option<sharded_slab::pool::RefMut<'a, Slot>>,
}

impl Drop for SlabBuffer<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            let key = slot.key();
            drop(slot);
            self.pool.clear(key);
        }
    }
}

impl Contender for ShardedSlab {
    const NAME: &'static str = "sharded-slab";
    type Buffer<'a> = SlabBuffer<'a>;

    fn with_capacity(capacity: usize) -> Self {
        Self(sharded_slab::Pool::new(), capacity)
    }

    fn take(&self, _: usize) -> SlabBuffer<'_> {
        let mut slot = self.0.create().expect("room in the slab");
        if slot.0.is_empty() {
            slot.0 = vec![0; self.1];
        }
        SlabBuffer {
            pool: &self.0,
            slot: Some(slot),
        }
    }

    fn fill(buffer: &mut SlabBuffer<'_>, n: usize, byte: u8) {
        if let Some(slot) = &mut buffer.slot {
            slot.0[..n].fill(byte);
        }
    }
}

/// Without zeroing returned buffers, as the other pools.
pub struct ZeroPool(zeropool::ZeroPool);

impl Contender for ZeroPool {
    const NAME: &'static str = "zeropool";
    type Buffer<'a> = zeropool::BufUninit<'a>;

    fn with_capacity(_: usize) -> Self {
        let pool = zeropool::ZeroPool::new();
        Self(pool.min_buffer_size(1 << 10).max_buffers_per_class(KEEP))
    }

    fn take(&self, n: usize) -> Self::Buffer<'_> {
        self.0.alloc_uninit(n)
    }

    fn fill(buffer: &mut Self::Buffer<'_>, _: usize, byte: u8) {
        buffer.as_uninit_mut().fill(MaybeUninit::new(byte));
    }
}
