//! The counters of a pool as the frozen dataclasses of `bytepool.stats`.

use std::iter;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

use super::once;
use crate::stats::{BucketStats, Stats};

/// How many numbers a snapshot and each of its size classes have, without the name and the list.
const FIELDS: usize = 12;

/// The numbers are passed on as bytes, because PyO3 panics if there is no memory for an integer.
pub(super) fn to_python<'py>(
    py: Python<'py>,
    name: Option<&Py<PyString>>,
    stats: &Stats,
) -> PyResult<Bound<'py, PyAny>> {
    static SNAPSHOT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let rows = iter::once(totals(stats)).chain(stats.buckets.iter().map(bucket));
    let count = stats.buckets.len().saturating_add(1);
    let size = count
        .saturating_mul(FIELDS)
        .saturating_mul(size_of::<u64>());
    let numbers = PyBytes::new_with(py, size, |bytes| {
        for (bytes, number) in bytes.chunks_exact_mut(size_of::<u64>()).zip(rows.flatten()) {
            bytes.copy_from_slice(&number.to_ne_bytes());
        }
        Ok(())
    })?;
    once::import(&SNAPSHOT, py, "bytepool.stats", "_snapshot")?.call1((name, numbers))
}

/// In the order of the fields of `Stats` in Python.
fn totals(stats: &Stats) -> [u64; FIELDS] {
    [
        stats.outstanding,
        stats.outstanding_bytes,
        stats.peak_outstanding,
        stats.peak_outstanding_bytes,
        stats.idle_bytes,
        stats.peak_idle_bytes,
        stats.transient,
        stats.transient_bytes,
        stats.waits,
        stats.dropped,
        stats.deferred,
        stats.deferred_bytes,
    ]
}

/// In the order of the fields of `BucketStats` in Python.
fn bucket(bucket: &BucketStats) -> [u64; FIELDS] {
    [
        bucket.size as u64,
        bucket.hits,
        bucket.misses,
        bucket.returned,
        bucket.discarded,
        bucket.capped,
        bucket.trimmed,
        bucket.decayed,
        bucket.closed,
        bucket.depth as u64,
        bucket.peak_depth as u64,
        bucket.peak_outstanding,
    ]
}
