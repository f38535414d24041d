//! An `EventLoop` inside a main loop of GLib, as GTK has one: a source of GLib watches the descriptor, and asks in its
//! `prepare` how long GLib may sleep.
//!
//! ```text
//! cargo run --release --package embedding --example glib_source
//! nc -C 127.0.0.1 7018       # in another terminal; type lines, or DIALOG
//! ```
//!
//! The important part is `source.rs`. `DIALOG` runs a nested main loop for half a second, as a modal dialog does.
//! Other clients are served meanwhile, because the dialog is not opened in a callback of the `EventLoop`.

#[cfg(not(target_os = "linux"))]
fn main() -> asynchat::Result {
    Err("this example is built on Linux only".into())
}

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod source;

#[cfg(target_os = "linux")]
fn main() -> asynchat::Result {
    main_loop::run(&clap::Parser::parse())
}

#[cfg(target_os = "linux")]
mod main_loop {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use asynchat::{Chat, EventLoop, Result};
    use glib::{ControlFlow, MainLoop};

    use crate::common::{BUDGET, Options, Server};
    use crate::source;

    /// A server inside a main loop of GLib.
    #[derive(clap::Parser)]
    pub(crate) struct Args {
        #[command(flatten)]
        options: Options,
    }

    pub(crate) fn run(args: &Args) -> Result {
        let main_loop = MainLoop::new(None, false);
        let event_loop = EventLoop::new()?;
        let server = Server::new(&event_loop, &args.options, |_| (), command)?;
        let failure = Rc::new(RefCell::new(None));
        let (quit, why) = (main_loop.clone(), Rc::clone(&failure));
        source::attach(&event_loop, BUDGET, move |outcome| {
            why.replace(outcome.err());
            quit.quit();
        });
        if let Some(period) = args.options.press() {
            glib::timeout_add_local(period, move || {
                server.press();
                ControlFlow::Continue
            });
        }
        main_loop.run();
        failure.take().map_or(Ok(()), Err)
    }

    fn command(chat: &Chat, line: &[u8]) -> bool {
        if line != b"DIALOG" {
            return false;
        }
        // A nested main loop in this callback would keep all connections waiting. GLib opens it after the turn.
        let chat = chat.clone();
        glib::idle_add_local_once(move || {
            chat.push("250 the dialog is open\r\n");
            show_dialog();
            chat.push("250 the dialog is closed\r\n");
        });
        true
    }

    /// Stands for `gtk_dialog_run`.
    fn show_dialog() {
        let nested = MainLoop::new(None, false);
        let close = nested.clone();
        glib::timeout_add_local_once(Duration::from_millis(500), move || close.quit());
        nested.run();
    }
}
