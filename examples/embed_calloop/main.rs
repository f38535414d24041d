//! An `EventLoop` inside calloop's loop: a program on calloop, such as a Wayland compositor, gets a control
//! port on asynchat.
//!
//! ```text
//! cargo run --release --example embed_calloop
//! nc -C 127.0.0.1 7011          # in another terminal: shows ticks; type PACE 100, or QUIT
//! ```
//!
//! The outer loop has a timer, and sends its ticks to all clients. The important lines are at the end of
//! `serve`. It works on Unix only: on other systems an `EventLoop` has no descriptor that another loop could
//! poll. The example `frames` shows the alternative.
//!
//! Ctrl-C and SIGTERM end it, and a second signal ends it at once. SIGHUP does nothing.

#[path = "../common/mod.rs"]
mod common;

#[cfg(not(all(unix, not(any(target_os = "illumos", target_os = "solaris")))))]
fn main() -> asynchat::Result {
    Err("an EventLoop has no descriptor on this system; see the example frames".into())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
fn main() -> asynchat::Result {
    ticker::serve(&clap::Parser::parse())
}

#[cfg(all(unix, not(any(target_os = "illumos", target_os = "solaris"))))]
mod ticker {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{AsyncChat, Chat, Close, Result};
    use calloop::generic::Generic;
    use calloop::timer::{TimeoutAction, Timer};
    use calloop::{Interest, Mode, PostAction};
    use clap::Parser;

    use crate::common;

    /// A timer on calloop, whose ticks are sent to clients on asynchat.
    #[derive(Parser)]
    #[command(after_help = common::SIGNALS)]
    pub(crate) struct Args {
        /// The address to listen on; port 0 chooses a free port.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7011")]
        listen: String,

        /// The initial time between two ticks, in milliseconds.
        #[arg(long, value_name = "MS", default_value_t = 1000,
              value_parser = clap::value_parser!(u64).range(1..))]
        pace: u64,
    }

    /// The state that the two loops share. They run on one thread.
    struct Clock {
        pace: Cell<Duration>,
        clients: RefCell<Vec<Chat>>,
    }

    pub(crate) fn serve(args: &Args) -> Result {
        common::log_to_stderr("error");
        let clock = Rc::new(Clock {
            pace: Cell::new(Duration::from_millis(args.pace)),
            clients: RefCell::default(),
        });
        let (nested, shared) = (asynchat::EventLoop::new()?, Rc::clone(&clock));
        let factory = move |chat| Control {
            chat,
            clock: Rc::clone(&shared),
        };
        let listener = nested.listen(&args.listen, factory)?;
        common::shutdown_loop_on_ctrl_c(&nested, Duration::from_secs(1))?;
        if let Some(addr) = listener.local_addr() {
            common::announce(addr);
        }

        let mut outer = calloop::EventLoop::<u64>::try_new()?;
        let timer = Timer::from_duration(clock.pace.get());
        let tick = move |_, _: &mut (), ticks: &mut u64| {
            *ticks += 1;
            for client in clock.clients.borrow().iter() {
                write!(client, "tick {ticks}\r\n");
            }
            TimeoutAction::ToDuration(clock.pace.get())
        };
        let inserted = outer.handle().insert_source(timer, tick);
        inserted.map_err(|refused| refused.error)?;
        // The callback does nothing: the event only ends the wait of `dispatch`. `run_once` below handles the
        // event. It is also needed for timers and for output that the tick has pushed.
        let events = Generic::new(nested.clone(), Interest::READ, Mode::Level);
        let wake = |_, _: &mut _, _: &mut u64| Ok(PostAction::Continue);
        let inserted = outer.handle().insert_source(events, wake);
        inserted.map_err(|refused| refused.error)?;

        let mut ticks = 0;
        while nested.run_once(Duration::ZERO)? {
            outer.dispatch(nested.next_timeout(), &mut ticks)?;
        }
        Ok(())
    }

    /// The handler of a client.
    struct Control {
        chat: Chat,
        clock: Rc<Clock>,
    }

    impl AsyncChat for Control {
        fn handle_connect(&mut self) -> Result {
            self.clock.clients.borrow_mut().push(self.chat.clone());
            self.chat.push("220 PACE ms, or QUIT\r\n");
            Ok(())
        }

        fn found_terminator(&mut self, line: &[u8]) -> Result {
            let line = String::from_utf8_lossy(line);
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("PACE", millis) => match millis.parse() {
                    Ok(millis @ 1..) => {
                        self.clock.pace.set(Duration::from_millis(millis));
                        self.chat.push("250 from the next tick on\r\n");
                    }
                    _ => self.chat.push("501 in milliseconds, and not none\r\n"),
                },
                ("QUIT", _) => {
                    self.chat.push("221 bye\r\n");
                    self.chat.close_when_done();
                }
                _ => self.chat.push("500 PACE ms, or QUIT\r\n"),
            }
            Ok(())
        }

        fn handle_close(&mut self, _: &Close) {
            let id = self.chat.id();
            let mut clients = self.clock.clients.borrow_mut();
            clients.retain(|client| client.id() != id);
        }
    }
}
