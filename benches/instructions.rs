//! Repeats one hot path. `instructions.py` counts its instructions under callgrind.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use bytepool::{Config, Pool};

const SIZE: usize = 4 << 10;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    // Run by `cargo bench` without these arguments, it does nothing.
    let [_, path, times] = &arguments[..] else {
        return;
    };
    let times: u64 = times.parse().expect("a number of times");
    let pool = Arc::new(Pool::new(Config::default()).expect("a valid configuration"));
    let repeat = |work: &dyn Fn()| (0..times).for_each(|_| work());
    match path.as_str() {
        "acquire" => repeat(&|| drop(black_box(pool.acquire(black_box(SIZE))))),
        "acquire_owned" => repeat(&|| drop(black_box(Pool::acquire_owned(&pool, black_box(SIZE))))),
        "transient" => repeat(&|| drop(black_box(pool.acquire(black_box(64 << 20))))),
        "stats" => repeat(&|| drop(black_box(pool.stats()))),
        other => panic!("no such path: {other}"),
    }
}
