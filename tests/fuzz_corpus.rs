//! Replays the fuzzer's corpus. `make fuzz` extends it.
//!
//! The ledger is this binary's global allocator and counts the whole process, so there is only one test.
#![cfg(not(loom))]

use std::fs;

use arbitrary::{Arbitrary, Unstructured};

#[path = "ledger/allocator.rs"]
mod ledger;
mod operations;

#[test]
fn every_input_of_the_corpus_replays_cleanly() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/core");
    let (mut replayed, mut borrowed) = (0, 0);
    ledger::live_at_rest();
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        println!("{}", path.display()); // shown on failure
        if let Ok(plan) = operations::Plan::arbitrary_take_rest(Unstructured::new(&bytes)) {
            borrowed += operations::run(&plan);
            replayed += 1;
        }
    }
    assert!(replayed > 50, "the corpus has only {replayed} inputs");
    assert!(borrowed > 4, "only {borrowed} requests borrowed a buffer");
}
