//! The operating system: all code that depends on the platform, and the only `unsafe`.
//!
//! The loop reaches the system through two seams. The *poller* waits for sockets to become ready;
//! the *socket* receives and sends. Both are enums. One arm is the operating system's, and the only
//! one unless the feature `sim` is on: then the other arm is a network in memory
//! (`simulated/`). An enum of one arm costs nothing.
//!
//! | file | what |
//! |---|---|
//! | `poller.rs`, `epoll.rs`, `portable.rs` | the poller, and its wait |
//! | `interest.rs` | what a socket is watched for, and what a wait reports |
//! | `watched_socket.rs` | a socket and its registration with the poller |
//! | `socket.rs`, `socket/` | sockets and other descriptors |
//! | `system.rs` | where sockets, addresses and random numbers come from |
//! | `clock.rs` | the time |
//! | `append.rs` | several slices appended to a vector |
//! | `positions.rs` | a search with the processor's vector instructions |
//! | `resolver.rs` | the threads that look host names up |
//! | `signals.rs` | the thread that waits for signals |
//! | `simulated/` | the network in memory |

pub(crate) mod append;
pub(crate) mod clock;
pub(crate) mod interest;
pub(crate) mod poller;
pub(crate) mod positions;
pub(crate) mod resolver;
#[cfg(feature = "signal")]
pub(crate) mod signals;
#[cfg(feature = "sim")]
pub(crate) mod simulated;
pub(crate) mod socket;
pub(crate) mod system;
pub(crate) mod watched_socket;

#[cfg_attr(
    all(
        any(target_os = "linux", target_os = "android"),
        not(any(asynchat_portable_wait, polling_test_poll_backend))
    ),
    path = "epoll.rs"
)]
#[cfg_attr(
    not(all(
        any(target_os = "linux", target_os = "android"),
        not(any(asynchat_portable_wait, polling_test_poll_backend))
    )),
    path = "portable.rs"
)]
mod wait;
