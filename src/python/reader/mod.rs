//! `bytepool._bytepool.Reader`, the native half of `bytepool.streams.StreamReader`, and its reads.
//!
//! A file uses only files above it in this list:
//!
//! ```text
//! ahead       memory that is read ahead, and how far to read ahead
//! error       the errors of asyncio's reader
//! format      the layout of a message that `frames()` reads
//! kept        what a cancelled read into pooled memory leaves behind
//! state       the class `Reader`: its fields, and simple queries of them
//! lend        pooled memory for a read
//! unread      the unread bytes: looking at them, and space for more
//! exposed     `reader._buffer`, for code that uses this private attribute of asyncio's reader
//! transport   waking the waiting task, pausing and resuming the transport
//! take        removing unread bytes, and putting bytes back
//! receive     bytes, and the end of the stream, from the transport
//! separators  the search for a separator
//! work        a read: its kind, and its progress
//! cancel      the end of a cancelled read, and going on with it
//! in_place    the common parts of several reads: memory for the result, and receiving in place
//! until       one step of `readuntil` and `readline`
//! frame       one step of reading a message of `frames()`
//! step        one step of any read
//! read        the class `Read`, the awaitable that runs the steps
//! frames      the class `Frames`, which makes a read for each message
//! methods     the Python methods and attributes of `Reader`
//! ```
//!
//! The lock of the state is never held while Python code runs.

mod ahead;
mod cancel;
mod error;
mod exposed;
mod format;
mod frame;
mod frames;
mod in_place;
mod kept;
mod lend;
mod methods;
mod read;
mod receive;
mod separators;
mod state;
mod step;
mod take;
mod transport;
mod unread;
mod until;
mod work;

pub(super) use frames::Frames;
pub(super) use read::Read;
pub(super) use state::Reader;
