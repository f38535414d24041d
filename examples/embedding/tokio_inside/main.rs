//! An `EventLoop` inside a tokio runtime, on one thread: a task waits for the descriptor of the loop, and takes its
//! turns.
//!
//! ```text
//! cargo run --release --package embedding --example tokio_inside
//! nc -C 127.0.0.1 7018       # in another terminal; type lines
//! ```
//!
//! The important part is `drive`. tokio watches descriptors edge-triggered. Tasks that use the sessions have to run on
//! this thread, in a `LocalSet`. The example `tokio_beside` shows the other way, which is usually better.

#[cfg(not(all(unix, not(any(target_os = "illumos", target_os = "solaris")))))]
fn main() -> asynchat::Result {
    Err("an EventLoop has no descriptor on this system; see the example tokio_beside".into())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
#[path = "../common/mod.rs"]
mod common;

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
fn main() -> asynchat::Result {
    inside::run(&clap::Parser::parse())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
mod inside {
    use std::io;
    use std::time::Duration;

    use asynchat::{EventLoop, Result};
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, yield_now};
    use tokio::time::{sleep, timeout};

    use crate::common::{BUDGET, Options, Server};

    /// A server inside a tokio runtime.
    #[derive(clap::Parser)]
    pub(crate) struct Args {
        #[command(flatten)]
        options: Options,
    }

    pub(crate) fn run(args: &Args) -> Result {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let event_loop = EventLoop::new()?;
        let server = Server::new(&event_loop, &args.options, |_| (), |_, _| false)?;
        let local = LocalSet::new();
        if let Some(period) = args.options.press() {
            local.spawn_local(press_every(period, server));
        }
        local.block_on(&runtime, drive(&event_loop))
    }

    /// Runs the loop until nothing is left to run for.
    #[allow(unsafe_code)]
    async fn drive(event_loop: &EventLoop) -> Result {
        let (inner, interest) = (event_loop.clone(), Interest::READABLE);
        // SAFETY: The `AsyncFd` owns a handle of the loop. The descriptor of a loop is always the same, and stays open
        // as long as a handle exists.
        let descriptor = unsafe { AsyncFd::register_with_interest(inner, interest) };
        let descriptor = descriptor.map_err(io::Error::from)?;
        while event_loop.run_for(BUDGET)? {
            match event_loop.next_timeout() {
                // There is more to do, after the other tasks.
                Some(Duration::ZERO) => yield_now().await,
                // Cleared before the turn: what becomes ready during the turn is a new edge.
                Some(time) => {
                    if let Ok(ready) = timeout(time, descriptor.readable()).await {
                        ready?.clear_ready();
                    }
                }
                None => descriptor.readable().await?.clear_ready(),
            }
        }
        Ok(())
    }

    /// A task that pushes between the turns of the loop. The push wakes `drive`.
    async fn press_every(period: Duration, server: Server) {
        loop {
            sleep(period).await;
            server.press();
        }
    }
}
