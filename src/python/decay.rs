//! A callback of Python's garbage collector that frees the idle memory of pools with an `idle_timeout`.

use std::mem;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyWeakrefMethods, PyWeakrefReference};

use super::shared::SharedPool;
use crate::interval::Interval;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

static COLLECTOR: PyOnceLock<Py<Collector>> = PyOnceLock::new();

/// The one entry of all pools in ``gc.callbacks``.
// Not a Python function: that handles signals before its first bytecode, and the garbage collector
// discards what a signal handler raises.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Collector {
    /// Weak references to the pools. Never locked while Python code runs.
    pools: Mutex<Vec<Py<PyWeakrefReference>>>,
    last_pass: Interval,
    /// How often to visit the pools, in nanoseconds: a quarter of the shortest timeout.
    period: AtomicU64,
    /// Whether a thread is just adding the collector to the callbacks.
    registering: AtomicBool,
}

impl Collector {
    /// Visits the pool from now on, as long as it exists.
    pub(super) fn watch(pool: &Bound<'_, SharedPool>, idle_timeout: Duration) -> PyResult<()> {
        let py = pool.py();
        let collector = COLLECTOR.get_or_try_init(py, || {
            let collector = Self {
                pools: Mutex::new(Vec::new()),
                last_pass: Interval::default(),
                period: AtomicU64::new(u64::MAX),
                registering: AtomicBool::new(false),
            };
            Py::new(py, collector)
        })?;
        let weak = PyWeakrefReference::new(pool)?.unbind();
        let this = collector.get();
        let mut pools = this.take_pools();
        if pools.len() == pools.capacity() {
            // The list must not grow with the number of pools ever made: the garbage collector, which
            // removes dead pools in its passes, may never run.
            pools.retain(|weak| alive(py, weak).is_some());
            pools.reserve(pools.len().saturating_add(1));
        }
        pools.push(weak);
        this.put_back(pools);
        let period = u64::try_from(idle_timeout.as_nanos() / 4).unwrap_or(u64::MAX);
        this.period.fetch_min(period, Ordering::Relaxed);
        if this.registering.swap(true, Ordering::Acquire) {
            return Ok(()); // another thread does it, or an outer call of this thread
        }
        let registered = register(collector.bind(py));
        this.registering.store(false, Ordering::Release);
        registered
    }

    /// Takes the list, to work on it without the lock.
    fn take_pools(&self) -> Vec<Py<PyWeakrefReference>> {
        mem::take(&mut *self.pools.lock())
    }

    /// Puts the list back, together with pools that were added meanwhile.
    fn put_back(&self, mut pools: Vec<Py<PyWeakrefReference>>) {
        loop {
            let mut added = mem::replace(&mut *self.pools.lock(), pools);
            if added.is_empty() {
                return;
            }
            pools = self.take_pools();
            pools.append(&mut added);
        }
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

fn alive<'py>(py: Python<'py>, weak: &Py<PyWeakrefReference>) -> Option<Bound<'py, SharedPool>> {
    weak.bind(py).upgrade_as::<SharedPool>().ok().flatten()
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
        let mut pools = self.take_pools();
        pools.retain(|weak| {
            let Some(pool) = alive(py, weak) else {
                return false;
            };
            pool.get().decay();
            true
        });
        self.put_back(pools);
        Ok(())
    }
}
