//! What each part of a task returns that is done in parts, so that others are served in between.

/// Whether the task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There are more parts.
    More,
    /// This was the last part, or there was none left.
    Complete,
}

impl Progress {
    pub fn more_if(has_more: bool) -> Progress {
        if has_more {
            Progress::More
        } else {
            Progress::Complete
        }
    }
}
