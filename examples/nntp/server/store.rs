//! The interface of a permanent store for posts. The implementation in `nntp` is the folder `store/`, which
//! uses a database. Programs that include the server without it need not compile the database.

use tempfile::SpooledTempFile;

use super::article::Size;
use super::head::Head;
use super::spool::Spool;

/// An article to be stored.
pub struct Job {
    pub message_id: String,
    pub head: Head,
    pub body: SpooledTempFile,
    pub size: Size,
    pub arrived: i64,
    pub numbers: Vec<(String, u64)>,
    pub on_done: OnDone,
}

/// Called once, on any thread, with whether the article has been stored. If it is dropped, for example by a panic of the
/// thread that stores, it is called with `false`: a session waits for it.
pub struct OnDone(Option<Box<dyn FnOnce(bool) + Send>>);

impl OnDone {
    pub fn new(call: impl FnOnce(bool) + Send + 'static) -> OnDone {
        OnDone(Some(Box::new(call)))
    }

    pub fn call(mut self, is_stored: bool) {
        self.call_once(is_stored);
    }

    fn call_once(&mut self, is_stored: bool) {
        if let Some(call) = self.0.take() {
            call(is_stored);
        }
    }
}

impl Drop for OnDone {
    fn drop(&mut self) {
        self.call_once(false);
    }
}

/// Stores articles permanently. The loop's thread calls these methods, so none of them may block.
pub trait Store {
    /// Whether an article with a header and a body of these sizes can be stored now: it is within the
    /// limit, and the disk has not failed recently.
    fn has_room(&self, head: usize, body: u64) -> bool;

    /// Passes the article to another thread, which stores it and then calls `on_done`.
    fn submit(&self, job: Job);

    /// Files the articles that have been stored since the last call. A session
    /// cannot do this in `on_done`: it may have ended before its article was stored.
    fn file_finished(&self, spool: &mut Spool);
}
