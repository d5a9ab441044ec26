//! The counters of a pool as the frozen dataclasses of `bytepool.stats`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyTuple, PyType};

use super::once;
use crate::stats::{BucketStats, Stats};

static BUCKET_STATS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static STATS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

pub(super) fn to_python<'py>(
    py: Python<'py>,
    name: Option<&str>,
    stats: &Stats,
) -> PyResult<Bound<'py, PyAny>> {
    let buckets = stats
        .buckets
        .iter()
        .map(|bucket| bucket_to_python(py, bucket))
        .collect::<PyResult<Vec<_>>>()?;
    let fields = [
        ("outstanding", stats.outstanding),
        ("outstanding_bytes", stats.outstanding_bytes),
        ("peak_outstanding", stats.peak_outstanding),
        ("peak_outstanding_bytes", stats.peak_outstanding_bytes),
        ("idle_bytes", stats.idle_bytes),
        ("peak_idle_bytes", stats.peak_idle_bytes),
        ("transient", stats.transient),
        ("transient_bytes", stats.transient_bytes),
        ("waits", stats.waits),
        ("dropped", stats.dropped),
        ("deferred", stats.deferred),
        ("deferred_bytes", stats.deferred_bytes),
    ]
    .into_py_dict(py)?;
    fields.set_item("name", name)?;
    fields.set_item("buckets", PyTuple::new(py, buckets)?)?;
    once::import(&STATS, py, "bytepool.stats", "Stats")?.call((), Some(&fields))
}

fn bucket_to_python<'py>(py: Python<'py>, bucket: &BucketStats) -> PyResult<Bound<'py, PyAny>> {
    let fields = [
        ("size", bucket.size as u64),
        ("hits", bucket.hits),
        ("misses", bucket.misses),
        ("returned", bucket.returned),
        ("discarded", bucket.discarded),
        ("capped", bucket.capped),
        ("trimmed", bucket.trimmed),
        ("decayed", bucket.decayed),
        ("closed", bucket.closed),
        ("depth", bucket.depth as u64),
        ("peak_depth", bucket.peak_depth as u64),
        ("peak_outstanding", bucket.peak_outstanding),
    ]
    .into_py_dict(py)?;
    once::import(&BUCKET_STATS, py, "bytepool.stats", "BucketStats")?.call((), Some(&fields))
}
