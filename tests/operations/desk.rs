//! Another thread, always the same one, which does what is laid on its desk. It allocates nothing for
//! itself, so that the ledger sees what the pool does and nothing else.

use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread;
use std::time::Duration;

type Job = Box<dyn FnOnce() + Send>;

static DESK: Mutex<Option<Job>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static THREAD: Once = Once::new();

/// Has the other thread do the work, and waits for it.
pub fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    THREAD.call_once(|| drop(thread::spawn(serve)));
    let result = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&result);
    *DESK.lock().unwrap() = Some(Box::new(move || {
        *theirs.lock().unwrap() = Some(work());
    }));
    CHANGED.notify_all();
    let desk = DESK.lock().unwrap();
    let (desk, waited) = CHANGED
        .wait_timeout_while(desk, Duration::from_secs(60), |job| job.is_some())
        .unwrap();
    assert!(!waited.timed_out(), "the other thread is stuck");
    drop(desk);
    let done = result.lock().unwrap().take();
    done.unwrap()
}

fn serve() {
    let mut desk = DESK.lock().unwrap();
    loop {
        // Done under the lock: who waits for it sees it done, or not begun.
        if let Some(job) = desk.take() {
            job();
            CHANGED.notify_all();
        }
        desk = CHANGED.wait(desk).unwrap();
    }
}
