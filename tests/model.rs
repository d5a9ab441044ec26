//! Random sequences against a plain model. Sequences are what this covers; races are `loom.rs`'s.
//!
//! The model keeps, for each class, a stack of what stands in the idle buffers, so it foresees every
//! counter, which buffer comes back (the newest), and each byte in it.
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

/// What a pool is, in the simplest words.
#[derive(Default)]
struct Model {
    pooled: bool,
    classes: BTreeMap<usize, Class>,
    transient: u64,
    /// All bytes of the buffers that are out, in the order of their acquisition.
    out: Vec<Vec<u8>>,
    transient_peak: Peak,
}

/// The most buffers of a class, and the most bytes, that were out at once.
#[derive(Clone, Copy, Default)]
struct Peak {
    buffers: u64,
    bytes: u64,
}

impl Peak {
    fn raise(&mut self, out: &[usize]) {
        self.buffers = self.buffers.max(out.len() as u64);
        self.bytes = self.bytes.max(out.iter().sum::<usize>() as u64);
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
    /// The capacity that serves `n`; `None` for a transient request. Found by trying them all.
    fn capacity(&self, n: usize) -> Option<usize> {
        [32, 64, 128, 256, 512, 1000]
            .into_iter()
            .find(|&capacity| self.pooled && capacity >= n)
    }

    fn acquire(&mut self, n: usize) {
        let memory = match self.capacity(n) {
            Some(capacity) => {
                let class = self.classes.entry(capacity).or_default();
                match class.idle.pop() {
                    Some(memory) => {
                        class.hits += 1;
                        memory
                    }
                    None => {
                        class.misses += 1;
                        vec![0; capacity]
                    }
                }
            }
            None => {
                self.transient += 1;
                vec![0; n]
            }
        };
        self.out.push(memory);
        let capacity = self.capacity(n);
        let alike = |memory: &&Vec<u8>| self.capacity(memory.len()) == capacity;
        let out: Vec<_> = self.out.iter().filter(alike).map(Vec::len).collect();
        match capacity {
            None => self.transient_peak.raise(&out),
            Some(capacity) => self.classes.entry(capacity).or_default().peak.raise(&out),
        }
    }

    fn give_back(&mut self, index: usize, n: usize) {
        let memory = self.out.remove(index);
        let Some(capacity) = self.capacity(n) else {
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

    fn out_bytes(&self) -> u64 {
        self.out.iter().map(Vec::len).sum::<usize>() as u64
    }

    fn check(&self, stats: &Stats) {
        assert_eq!(stats.outstanding, self.out.len() as u64);
        assert_eq!(stats.outstanding_bytes, self.out_bytes());
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
            let out = |memory: &&Vec<u8>| self.pooled && memory.len() == size;
            let out = self.out.iter().filter(out).count() as u64;
            assert_eq!(hits + misses, returned + out, "conservation");
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
                let memory = model.out.last_mut().unwrap();
                assert_eq!(buffer[..], memory[..n], "the newest buffer, as it was left");
                buffer.fill(stamp);
                memory[..n].fill(stamp);
                live.push(buffer);
            }
            Step::Drop(choice) if !live.is_empty() => {
                let index = choice % live.len();
                let buffer = live.remove(index);
                model.give_back(index, buffer.len());
            }
            Step::Drop(_) => {}
        }
        for (buffer, memory) in live.iter().zip(&model.out) {
            assert_eq!(buffer[..], memory[..buffer.len()], "changed while out");
        }
        model.check(&pool.stats());
    }
}

proptest! {
    #[test]
    fn a_pool_is_its_model(steps in steps()) {
        run(&Pool::new(CONFIG).unwrap(), true, &steps);
    }

    #[test]
    fn the_null_pool_is_the_model_without_classes(steps in steps()) {
        run(&Pool::null(), false, &steps);
    }
}
