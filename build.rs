//! Tells the crate for which kind of Python it is built: free-threaded or not. The core needs none of it.

fn main() {
    #[cfg(feature = "python")]
    pyo3_build_config::use_pyo3_cfgs();
}
