//! A callback of Python's garbage collector that frees the idle memory of pools with an `idle_timeout`.

use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyAny;

use super::{once, registry};
use crate::interval::Interval;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

static COLLECTOR: PyOnceLock<Py<Collector>> = PyOnceLock::new();

/// The one entry of all pools in ``gc.callbacks``.
// Not a Python function: that handles signals before its first bytecode, and the garbage collector
// discards what a signal handler raises.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Collector {
    last_pass: Interval,
    /// How often to visit the pools, in nanoseconds: a quarter of the shortest timeout.
    period: AtomicU64,
    /// Whether a thread is just adding the collector to the callbacks.
    registering: AtomicBool,
}

impl Collector {
    /// Visits all pools from now on, often enough for one with this timeout.
    pub(super) fn watch(py: Python<'_>, idle_timeout: Duration) -> PyResult<()> {
        let collector = once::get_or_try_init(&COLLECTOR, py, || {
            let collector = Self {
                last_pass: Interval::default(),
                period: AtomicU64::new(u64::MAX),
                registering: AtomicBool::new(false),
            };
            Py::new(py, collector)
        })?;
        let this = collector.get();
        let period = u64::try_from(idle_timeout.as_nanos() / 4).unwrap_or(u64::MAX);
        this.period.fetch_min(period, Ordering::Relaxed);
        if this.registering.swap(true, Ordering::Acquire) {
            return Ok(()); // another thread does it, or an outer call of this thread
        }
        let registered = register(collector.bind(py));
        this.registering.store(false, Ordering::Release);
        registered
    }
}

/// Adds the collector to the callbacks, unless it is there.
fn register(collector: &Bound<'_, Collector>) -> PyResult<()> {
    let py = collector.py();
    let gc = py.import(intern!(py, "gc"))?;
    let callbacks = gc.getattr(intern!(py, "callbacks"))?;
    if !callbacks.contains(collector)? {
        callbacks.call_method1(intern!(py, "append"), (collector,))?;
    }
    Ok(())
}

#[pymethods]
impl Collector {
    /// Called by the garbage collector before and after it runs.
    fn __call__(
        &self,
        py: Python<'_>,
        _phase: &Bound<'_, PyAny>,
        _info: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let period = Duration::from_nanos(self.period.load(Ordering::Relaxed));
        if !self.last_pass.is_over(period) {
            return Ok(());
        }
        // Without memory for the list of pools, a later run does it.
        for pool in registry::live(py).unwrap_or_default() {
            pool.get().decay();
        }
        Ok(())
    }
}
