//! The only file that names a mutex, an atomic or loom: `--cfg loom` swaps all of them at once.

#[cfg(not(loom))]
mod imp {
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::Arc;
    #[cfg(feature = "python")]
    pub(crate) use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::Arc;
    #[cfg(feature = "python")]
    pub(crate) use loom::sync::atomic::AtomicBool;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    use std::sync::PoisonError;

    /// loom's mutex with the face of the real one, which has no poison.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(feature = "python")]
pub(crate) use imp::AtomicBool;
pub(crate) use imp::{Arc, AtomicU64, Mutex, Ordering};
