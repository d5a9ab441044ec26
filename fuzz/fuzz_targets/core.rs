//! Any plan of operations on the core: `tests/operations/` has what is done and checked.
#![no_main]

#[path = "../../tests/ledger/allocator.rs"]
mod ledger;
#[path = "../../tests/operations/mod.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|plan: operations::Plan| {
    operations::run(&plan);
});
