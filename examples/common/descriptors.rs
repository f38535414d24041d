//! The limit on open descriptors. Each connection takes one, and each file that is being sent. Several examples include
//! this file by its path.

/// Raises the soft limit to the hard one. Many systems begin with a soft limit of 1024, for the sake of programs that use
/// select(2), which this one does not. Returns the limit, if there is one.
#[cfg(unix)]
pub(crate) fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    /// What macOS accepts, where the hard limit is mostly infinite (OPEN_MAX).
    const WITHOUT_LIMIT: u64 = 10_240;

    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(WITHOUT_LIMIT);
    let Some(before) = limit.current.filter(|before| *before < most) else {
        return limit.current;
    };
    limit.current = Some(most);
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => {
            tracing::info!(before, now = most, "raised the limit on descriptors");
            Some(most)
        }
        Err(error) => {
            tracing::warn!(%error, before, "cannot raise the limit on descriptors");
            Some(before)
        }
    }
}

/// Sockets have no such limit here.
#[cfg(not(unix))]
pub(crate) fn raise_limit() -> Option<u64> {
    None
}
