//! `bytepool._bytepool`, the extension module: its parts, and what Python sees of them.
//!
//! A file uses only files above it in this list:
//!
//! ```text
//! objects    Python objects that are made without PyO3's panics for want of memory
//! error      exceptions, and the mapping of core errors to them
//! once       values that are made once, without a lock while Python code runs
//! args       conversion of arguments: integers, seconds, named choices
//! config     the constructor's arguments, the environment variable BYTEPOOL, repr
//! stats      a snapshot of the counters as dataclasses
//! tracking   which buffers are recorded, and their records
//! malloc     a request to the C library's malloc to return free memory to the system
//! shared     what a pool shares with its buffers: the core's pool, by Python's reference count; lending
//! registry   all pools of the process
//! garbage    garbage collection for refused requests
//! fork       what a forked child settles
//! decay      the garbage collector's callback that frees idle memory
//! lease      the hidden object that owns a buffer and exports it
//! budget     waiting in a thread for a pool's budget
//! pool       the class `Pool`: how it is made, and how a request becomes a lease
//! allocator  the class `Allocator`
//! budget::waiter, pool::methods   the class `Waiter`; the methods of `Pool`
//! pool::default   the function `default_pool`
//! bytes      memory that a transport receives into, and the `bytes` objects made in it
//! target     the class `Target`: memory that a protocol has its transport fill
//! reader     the native half of `bytepool.streams.StreamReader`, and its reads
//! ```
//!
//! In this folder `///` on a class, method or property is for users of Python: it becomes `help()`, and
//! stands in `_bytepool.pyi` as well. `//` is for maintainers.

mod allocator;
mod args;
mod budget;
mod bytes;
mod config;
mod decay;
mod error;
mod fork;
mod garbage;
mod lease;
mod malloc;
mod objects;
mod once;
mod pool;
mod reader;
mod registry;
mod shared;
mod stats;
mod target;
mod tracking;

/// The compiled half of bytepool. Import its names from ``bytepool``.
// Several threads may call everything here at the same time: the classes are frozen, their state is
// behind locks and atomics, and no lock is held while Python code runs.
#[pyo3::pymodule(gil_used = false)]
mod _bytepool {
    #[pymodule_export]
    use super::{
        allocator::Allocator,
        budget::waiter::Waiter,
        error::{
            BytesAlreadyAllocatedError, BytesAlreadyReturnedError, BytesOverwrittenError,
            MisuseError, PoolClosedError, PoolExhaustedError,
        },
        fork::settle_after_fork,
        garbage::collect_garbage,
        lease::Lease,
        malloc::expect_large_blocks,
        pool::{Pool, default::default_pool},
        reader::Reader,
        registry::live_pools,
        shared::SharedPool,
        target::Target,
        tracking::{AllocationRecord, records},
    };
    use pyo3::PyTypeInfo;
    use pyo3::prelude::*;

    /// Makes the classes that the module does not show. With their first object, PyO3 would make them in ordinary
    /// allocations.
    #[pymodule_init]
    fn make_classes(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        super::decay::Collector::type_object(py);
        super::bytes::ReceiveBuffer::type_object(py);
        super::reader::Read::type_object(py);
        super::reader::Frames::type_object(py);
        Ok(())
    }

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);
}
