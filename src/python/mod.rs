//! `bytepool._bytepool`, the extension module: its parts, and what Python sees of them.
//!
//! A file uses only files above it in this list:
//!
//! ```text
//! error      exceptions, and the mapping of core errors to them
//! args       conversion of arguments: integers, seconds, named choices
//! config     the constructor's arguments, the environment variable BYTEPOOL, repr
//! stats      a snapshot of the counters as dataclasses
//! shared     the core's pool, shared by Python's reference count; lending
//! fork       what a forked child settles
//! decay      the garbage collector's callback that frees idle memory
//! tracking   which buffers are recorded, and their records
//! lease      the hidden object that owns a buffer and exports it
//! budget     waiting in a thread for a pool's budget
//! pool       the class `Pool`: its parts, and the way to a lease
//! allocator  the class `Allocator`
//! budget::waiter, pool::methods   the class `Waiter`; the methods of `Pool`
//! ```
//!
//! In this folder `///` on a class, method or property is for users of Python: it becomes `help()`, and
//! stands in `_bytepool.pyi` as well. `//` is for maintainers.

mod allocator;
mod args;
mod budget;
mod config;
mod decay;
mod error;
mod fork;
mod lease;
mod pool;
mod registry;
mod shared;
mod stats;
mod tracking;

/// The compiled half of bytepool. Import its names from ``bytepool``.
// Several threads may call everything here at the same time: the classes are frozen, their state is
// behind locks and atomics, and no lock is held while Python code runs.
#[pyo3::pymodule(gil_used = false)]
mod _bytepool {
    use super::registry;
    #[pymodule_export]
    use super::{
        allocator::Allocator,
        budget::waiter::Waiter,
        error::{
            BytesAlreadyAllocatedError, BytesAlreadyReturnedError, BytesOverwrittenError,
            MisuseError, PoolClosedError, PoolExhaustedError,
        },
        fork::settle_after_fork,
        lease::Lease,
        pool::Pool,
        shared::SharedPool,
        tracking::AllocationRecord,
    };
    use crate::error::Error;
    use pyo3::prelude::*;

    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

    /// Returns all pools of the process, oldest first.
    ///
    /// Closed pools are among them, and pools that exist only because buffers of theirs are in use.
    #[pyfunction]
    fn live_pools(py: Python<'_>) -> PyResult<Vec<Bound<'_, SharedPool>>> {
        registry::live(py).ok_or_else(|| Error::OutOfMemory { requested: 0 }.into())
    }
}
