//! How connections begin: servers, connectors, reconnection, child processes.

pub(crate) mod attempts;
pub(crate) mod connector;
pub(crate) mod quota;
pub(crate) mod reconnect;
pub(crate) mod server;
// Where a process can be waited for without collecting it.
#[cfg(all(unix, not(any(target_os = "openbsd", target_os = "redox"))))]
pub(crate) mod subprocess;
