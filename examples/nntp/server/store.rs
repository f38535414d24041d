//! Where posts are kept, if not in memory. The server knows no database: `nntp` brings its own
//! (`store/`), and programs that only borrow this server compile none.

use tempfile::SpooledTempFile;

use super::article::Size;
use super::head::Head;
use super::spool::Spool;

/// An article to be kept.
pub struct Job {
    pub message_id: String,
    pub head: Head,
    pub body: SpooledTempFile,
    pub size: Size,
    pub arrived: i64,
    pub numbers: Vec<(String, u64)>,
    /// Called on the writer's thread: true when the article is durable.
    pub answer: Box<dyn FnOnce(bool) + Send>,
}

/// Keeps articles for good. The loop's thread calls these methods, so none of them waits.
pub trait Store {
    /// Whether an article of so many octets can be kept: it is within the limit, and the disk has
    /// not just failed.
    fn has_room(&self, head: usize, body: u64) -> bool;

    /// Keeps this article on another thread, which then calls the job's answer.
    fn submit(&self, job: Job);

    /// Files what has become durable since the last call. An answer finds a
    /// session, and only while it lives; the articles have to be filed also
    /// when the poster has hung up.
    fn settle(&self, spool: &mut Spool);
}
