//! Random plans against the bounds that a pool promises: idle bytes, the budget, and what is freed and why. Which buffer
//! is evicted first is not checked here.
//!
//! The ledger is this binary's global allocator and counts the whole process, so there is only one test.
#![cfg(not(loom))]

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[path = "ledger/allocator.rs"]
mod ledger;
mod operations;

#[test]
fn the_bounds_hold_after_every_step() {
    ledger::live_at_rest();
    let bytes = prop::collection::vec(any::<u8>(), 0..800);
    TestRunner::default()
        .run(&bytes, |bytes| {
            if let Ok(plan) = operations::Plan::arbitrary_take_rest(Unstructured::new(&bytes)) {
                operations::run(&plan);
            }
            Ok(())
        })
        .unwrap();
}
