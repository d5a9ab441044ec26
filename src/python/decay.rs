//! Has Python's garbage collector see to it that idle memory decays.

use std::mem;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyAny, PyWeakrefMethods, PyWeakrefReference};

use super::shared::CorePool;
use crate::evict::Interval;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

static COLLECTOR: PyOnceLock<Py<Collector>> = PyOnceLock::new();

/// What stands in ``gc.callbacks``, once, whatever the number of pools.
// Not a function in Python: before its first bytecode a signal would be handled, and the collector
// throws away what the handler raises.
#[pyclass(frozen, module = "bytepool._bytepool")]
pub(super) struct Collector {
    /// Weak references. Never locked while Python runs.
    pools: Mutex<Vec<Py<PyWeakrefReference>>>,
    passed: Interval,
    /// How often to pass through the pools, in nanoseconds: the shortest timeout says it.
    every: AtomicU64,
    /// Whether a thread is just seeing to it that this stands there.
    listing: AtomicBool,
}

impl Collector {
    /// Looks after the pool as long as there is one.
    pub(super) fn watch(pool: &Bound<'_, CorePool>, idle_timeout: Duration) -> PyResult<()> {
        let py = pool.py();
        let collector = COLLECTOR.get_or_try_init(py, || {
            let collector = Self {
                pools: Mutex::new(Vec::new()),
                passed: Interval::default(),
                every: AtomicU64::new(u64::MAX),
                listing: AtomicBool::new(false),
            };
            Py::new(py, collector)
        })?;
        let weak = PyWeakrefReference::new(pool)?.unbind();
        let this = collector.get();
        let mut pools = mem::take(&mut *this.pools.lock());
        if pools.len() == pools.capacity() {
            // The collector may run seldom, or never, and pools may come and go.
            pools.retain(|weak| alive(py, weak).is_some());
            pools.reserve(pools.len().saturating_add(1));
        }
        pools.push(weak);
        this.put_back(pools);
        let every = u64::try_from(idle_timeout.as_nanos() / 4).unwrap_or(u64::MAX);
        this.every.fetch_min(every, Ordering::Relaxed);
        if this.listing.swap(true, Ordering::Acquire) {
            return Ok(()); // by another thread, or further out in this one
        }
        let listed = list(collector.bind(py));
        this.listing.store(false, Ordering::Release);
        listed
    }

    /// What was taken to work on without a lock; others may have come meanwhile.
    fn put_back(&self, mut pools: Vec<Py<PyWeakrefReference>>) {
        loop {
            let mut others = mem::replace(&mut *self.pools.lock(), pools);
            if others.is_empty() {
                return;
            }
            pools = mem::take(&mut *self.pools.lock());
            pools.append(&mut others);
        }
    }
}

/// Has the garbage collector call it, unless it does already.
fn list(collector: &Bound<'_, Collector>) -> PyResult<()> {
    let py = collector.py();
    let gc = py.import(intern!(py, "gc"))?;
    let callbacks = gc.getattr(intern!(py, "callbacks"))?;
    if !callbacks.contains(collector)? {
        callbacks.call_method1(intern!(py, "append"), (collector,))?;
    }
    Ok(())
}

fn alive<'py>(py: Python<'py>, weak: &Py<PyWeakrefReference>) -> Option<Bound<'py, CorePool>> {
    weak.bind(py).upgrade_as::<CorePool>().ok().flatten()
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
        let every = Duration::from_nanos(self.every.load(Ordering::Relaxed));
        if !self.passed.is_over(every) {
            return Ok(());
        }
        let mut pools = mem::take(&mut *self.pools.lock());
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
