//! An `EventLoop` and a window on one thread, with winit: the program sleeps on the descriptors of both, and pumps
//! winit's events.
//!
//! ```text
//! cargo run --release --package embedding --example winit_pump
//! nc -C 127.0.0.1 7018       # in another terminal; click into the window, and this shows a line
//! ```
//!
//! The important part is the loop in `run`. It needs X11 or Wayland, because winit has no descriptor elsewhere. The
//! example `winit_proxy` runs on all systems.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;

#[cfg(not(target_os = "linux"))]
fn main() -> asynchat::Result {
    Err("this example needs X11 or Wayland; see the example winit_proxy".into())
}

#[cfg(target_os = "linux")]
fn main() -> asynchat::Result {
    window::run(&clap::Parser::parse())
}

#[cfg(target_os = "linux")]
mod window {
    use std::cell::Cell;
    use std::io::{self, Write};
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    use asynchat::{EventLoop, Result};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use winit::application::ApplicationHandler;
    use winit::event::{ElementState, WindowEvent};
    use winit::event_loop::ActiveEventLoop;
    use winit::platform::pump_events::{EventLoopExtPumpEvents, PumpStatus};
    use winit::window::{Window, WindowAttributes, WindowId};

    use crate::common::{BUDGET, Options, Server};

    /// A window whose clicks and keys are sent to clients of a server on the same thread.
    #[derive(clap::Parser)]
    pub(crate) struct Args {
        #[command(flatten)]
        options: Options,
    }

    pub(crate) fn run(args: &Args) -> Result {
        let mut windows = winit::event_loop::EventLoop::new()?;
        let event_loop = EventLoop::new()?;
        let clients = Rc::new(Cell::new(0));
        let count = Rc::clone(&clients);
        let changed = move |number| count.set(number);
        let server = Server::new(&event_loop, &args.options, changed, |_, _| false)?;
        let mut app = App {
            window: None,
            server: server.clone(),
            clients,
            shown: usize::MAX,
        };
        let press = args.options.press();
        let mut next_press = press.map(|period| Instant::now() + period);
        let mut closing = false;
        loop {
            // The window first, so that it is never later than one budget of the sockets. After its exit winit is not
            // pumped again: it would begin anew, with another window.
            if !closing
                && let PumpStatus::Exit(_) = windows.pump_app_events(Some(Duration::ZERO), &mut app)
            {
                closing = true;
                app.window = None;
                server.quit();
            }
            if next_press.is_some_and(|at| at <= Instant::now()) {
                server.press();
                next_press = press.map(|period| Instant::now() + period);
            }
            if !event_loop.run_for(BUDGET)? {
                return Ok(());
            }
            app.show_clients();
            // Sleeps until one of the two loops has something to do.
            let until_press = next_press.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = [event_loop.next_timeout(), until_press]
                .into_iter()
                .flatten();
            let timeout = timeout.min().map(Timespec::try_from).transpose()?;
            let mut watched = vec![PollFd::new(&event_loop, PollFlags::IN)];
            if !closing {
                watched.push(PollFd::new(&windows, PollFlags::IN));
            }
            match poll(&mut watched, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
    }

    struct App {
        window: Option<Window>,
        server: Server,
        clients: Rc<Cell<usize>>,
        /// The number in the title.
        shown: usize,
    }

    impl App {
        fn show_clients(&mut self) {
            let count = self.clients.get();
            if let Some(window) = &self.window
                && self.shown != count
            {
                window.set_title(&format!("{count} clients"));
                self.shown = count;
            }
        }
    }

    impl ApplicationHandler for App {
        fn resumed(&mut self, windows: &ActiveEventLoop) {
            match windows.create_window(WindowAttributes::default().with_title("asynchat")) {
                Ok(window) => self.window = Some(window),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "no window: {error}");
                    windows.exit();
                }
            }
        }

        fn window_event(&mut self, windows: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
            match event {
                WindowEvent::CloseRequested => windows.exit(),
                WindowEvent::MouseInput {
                    state: ElementState::Pressed,
                    ..
                } => {
                    self.server.press();
                }
                WindowEvent::KeyboardInput { event, .. } if event.state.is_pressed() => {
                    self.server.press();
                }
                _ => {}
            }
        }
    }
}
