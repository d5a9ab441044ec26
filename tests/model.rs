//! Random sequences against a plain model. This covers sequences; `loom/` covers races.
//!
//! The model keeps a stack of the contents of idle buffers for each size class. So it predicts every counter, which
//! buffer is reused (the newest), and each byte in it.
#![cfg(not(loom))]

use std::collections::BTreeMap;

use bytepool::{BucketStats, Buffer, Config, Pool, Stats};
use proptest::prelude::*;

const CONFIG: Config = Config {
    min_size: 20,
    max_size: 1000,
    max_buffers: 3,
    ..Config::DEFAULT
};

/// The capacities of all size classes.
const CAPACITIES: [usize; 11] = [32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1000];

#[derive(Clone, Debug)]
enum Step {
    Acquire(usize),
    /// Drops one of the live buffers, chosen by this number.
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..=CONFIG.max_size).prop_map(Step::Acquire),
        1 => (CONFIG.max_size + 1..3 * CONFIG.max_size).prop_map(Step::Acquire),
        3 => any::<usize>().prop_map(Step::Drop),
    ];
    prop::collection::vec(step, 0..200)
}

/// A pool in its simplest form.
#[derive(Default)]
struct Model {
    pooled: bool,
    classes: BTreeMap<usize, Class>,
    /// Of each class, the requests that found nothing idle there. Each 128th of them is a miss, whatever is idle above.
    empty: BTreeMap<usize, u64>,
    transient: u64,
    /// The contents of the buffers in use, in the order of their requests.
    in_use: Vec<Vec<u8>>,
    transient_peak: Peak,
}

/// The most buffers of a size class in use together, and the most bytes.
#[derive(Clone, Copy, Default)]
struct Peak {
    buffers: u64,
    bytes: u64,
}

impl Peak {
    fn raise(&mut self, in_use: &[usize]) {
        self.buffers = self.buffers.max(in_use.len() as u64);
        self.bytes = self.bytes.max(in_use.iter().sum::<usize>() as u64);
    }
}

#[derive(Default)]
struct Class {
    peak: Peak,
    idle: Vec<Vec<u8>>,
    hits: u64,
    misses: u64,
    returned: u64,
    discarded: u64,
}

impl Model {
    /// The capacity that serves `n` bytes, found by trying all; `None` for a transient request.
    fn capacity(&self, n: usize) -> Option<usize> {
        let mut capacities = CAPACITIES.into_iter();
        capacities.find(|&capacity| self.pooled && capacity >= n)
    }

    fn acquire(&mut self, n: usize) {
        let memory = match self.capacity(n) {
            Some(capacity) => {
                // A request may borrow from the class above, and from the next one if two are idle there.
                let class = self.classes.get(&capacity);
                let is_empty = class.is_none_or(|class| class.idle.is_empty());
                let empty = self.empty.entry(capacity).or_default();
                *empty += u64::from(is_empty);
                let grows = is_empty && *empty % 128 == 0;
                let found = CAPACITIES.into_iter().filter(|&other| other >= capacity);
                let found = found
                    .zip([1, 1, 2])
                    .take(if grows { 1 } else { 3 })
                    .find_map(|(capacity, needed)| {
                        let class = self.classes.get_mut(&capacity)?;
                        if class.idle.len() < needed {
                            return None;
                        }
                        let memory = class.idle.pop()?;
                        class.hits += 1;
                        Some(memory)
                    });
                found.unwrap_or_else(|| {
                    self.classes.entry(capacity).or_default().misses += 1;
                    vec![0; capacity]
                })
            }
            None => {
                self.transient += 1;
                vec![0; n]
            }
        };
        let capacity = self.capacity(n).map(|_| memory.len());
        self.in_use.push(memory);
        let alike = |memory: &&Vec<u8>| self.capacity(memory.len()) == capacity;
        let lengths: Vec<_> = self.in_use.iter().filter(alike).map(Vec::len).collect();
        match capacity {
            None => self.transient_peak.raise(&lengths),
            Some(capacity) => self
                .classes
                .entry(capacity)
                .or_default()
                .peak
                .raise(&lengths),
        }
    }

    fn give_back(&mut self, index: usize) {
        let memory = self.in_use.remove(index);
        let Some(capacity) = self.capacity(memory.len()) else {
            return;
        };
        let class = self.classes.entry(capacity).or_default();
        class.returned += 1;
        if class.idle.len() < CONFIG.max_buffers {
            class.idle.push(memory);
        } else {
            class.discarded += 1;
        }
    }

    fn bytes_in_use(&self) -> u64 {
        self.in_use.iter().map(Vec::len).sum::<usize>() as u64
    }

    fn check(&self, stats: &Stats) {
        assert_eq!(stats.outstanding, self.in_use.len() as u64);
        assert_eq!(stats.outstanding_bytes, self.bytes_in_use());
        let classes = self.classes.values().map(|class| class.peak);
        let peaks = || classes.clone().chain([self.transient_peak]);
        assert_eq!(
            stats.peak_outstanding,
            peaks().map(|peak| peak.buffers).sum::<u64>()
        );
        assert_eq!(
            stats.peak_outstanding_bytes,
            peaks().map(|peak| peak.bytes).sum::<u64>()
        );
        assert_eq!(stats.transient, self.transient);
        assert_eq!((stats.dropped, stats.deferred), (0, 0));
        let idle = |(size, class): (&usize, &Class)| size * class.idle.len();
        assert_eq!(
            stats.idle_bytes,
            self.classes.iter().map(idle).sum::<usize>() as u64
        );
        assert_eq!(stats.buckets.len(), self.classes.len());
        for (bucket, (&size, class)) in stats.buckets.iter().zip(&self.classes) {
            let BucketStats {
                hits,
                misses,
                returned,
                discarded,
                depth,
                ..
            } = *bucket;
            assert_eq!((bucket.size, depth), (size, class.idle.len()));
            assert_eq!((hits, misses), (class.hits, class.misses));
            assert_eq!((returned, discarded), (class.returned, class.discarded));
            assert_eq!(bucket.peak_outstanding, class.peak.buffers);
            let same = |memory: &&Vec<u8>| self.pooled && memory.len() == size;
            let in_use = self.in_use.iter().filter(same).count() as u64;
            assert_eq!(hits + misses, returned + in_use, "conservation");
        }
    }
}

fn run(pool: &Pool, pooled: bool, steps: &[Step]) {
    let mut model = Model {
        pooled,
        ..Model::default()
    };
    let mut live: Vec<Buffer<&Pool>> = Vec::new();
    for (step, stamp) in steps.iter().zip((1..=255_u8).cycle()) {
        match *step {
            Step::Acquire(n) => {
                let mut buffer = pool.acquire(n).unwrap();
                model.acquire(n);
                let memory = model.in_use.last_mut().unwrap();
                assert_eq!(buffer[..], memory[..n], "the newest idle buffer, unchanged");
                buffer.fill(stamp);
                memory[..n].fill(stamp);
                live.push(buffer);
            }
            Step::Drop(choice) if !live.is_empty() => {
                let index = choice % live.len();
                let buffer = live.remove(index);
                drop(buffer);
                model.give_back(index);
            }
            Step::Drop(_) => {}
        }
        for (buffer, memory) in live.iter().zip(&model.in_use) {
            assert_eq!(buffer[..], memory[..buffer.len()], "changed while in use");
        }
        model.check(&pool.stats());
    }
}

proptest! {
    #[test]
    fn a_pool_behaves_as_its_model(steps in steps()) {
        run(&Pool::new(CONFIG).unwrap(), true, &steps);
    }

    #[test]
    fn a_null_pool_behaves_as_the_model_without_size_classes(steps in steps()) {
        run(&Pool::null(), false, &steps);
    }
}
