//! One other thread that runs jobs. It allocates nothing of its own, so that the ledger sees only what the pool
//! allocates.

use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

static JOB: Mutex<Option<Job>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static THREAD: Once = Once::new();

/// Runs the work on the other thread, and waits for its result.
pub fn on_another_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    THREAD.call_once(|| drop(thread::spawn(serve)));
    let result = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&result);
    *JOB.lock().unwrap() = Some(Box::new(move || {
        *theirs.lock().unwrap() = Some(work());
    }));
    CHANGED.notify_all();
    let job_slot = JOB.lock().unwrap();
    let (job_slot, waited) = CHANGED
        .wait_timeout_while(job_slot, Duration::from_secs(60), |job| job.is_some())
        .unwrap();
    assert!(!waited.timed_out(), "the other thread hangs");
    drop(job_slot);
    let done = result.lock().unwrap().take();
    done.unwrap()
}

fn serve() {
    let mut job_slot = JOB.lock().unwrap();
    loop {
        // Run with the lock held: the waiting thread sees the job finished, or not yet begun.
        if let Some(job) = job_slot.take() {
            job();
            CHANGED.notify_all();
        }
        job_slot = CHANGED.wait(job_slot).unwrap();
    }
}
