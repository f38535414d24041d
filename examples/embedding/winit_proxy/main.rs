//! An `EventLoop` on a thread of its own, and a window of winit on the main thread. The loop tells the window what
//! happens with winit's `EventLoopProxy`, and the window calls the loop with a `Remote`.
//!
//! ```text
//! cargo run --release --package embedding --example winit_proxy
//! nc -C 127.0.0.1 7018       # in another terminal; click into the window, and this shows a line
//! ```
//!
//! This works on all systems, and neither of the two can delay the other. The example `winit_pump` needs no second
//! thread.

#[path = "../common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::io::{self, Write};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use asynchat::{EventLoop, Remote, Result};
use clap::Parser;
use winit::application::ApplicationHandler;
use winit::event::{ElementState, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoopProxy};
use winit::window::{Window, WindowAttributes, WindowId};

use common::{Options, Server};

/// A window whose clicks and keys are sent to clients of a server on another thread.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    options: Options,
}

/// How long the sessions have to finish when the window is closed.
const GRACE: Duration = Duration::from_secs(1);

/// What the server tells the window.
enum News {
    Clients(usize),
    /// The loop has ended.
    Over,
}

fn main() -> Result {
    let Args { options } = Args::parse();
    let press = options.press();
    let windows = winit::event_loop::EventLoop::<News>::with_user_event().build()?;
    let proxy = windows.create_proxy();
    let (started, remote) = mpsc::channel();
    let network = thread::spawn(move || {
        let outcome = serve(&options, &proxy, &started);
        // Fails only if the window is gone already.
        let _ = proxy.send_event(News::Over);
        outcome
    });
    // If the server has failed, the channel is closed, and the thread has the reason.
    let outcome = match remote.recv() {
        Ok(remote) => {
            let outcome = windows.run_app(&mut App {
                window: None,
                remote: remote.clone(),
                closing: false,
                press,
                next_press: press.map(|period| Instant::now() + period),
            });
            // Where there was no window, nobody has ended the loop. It fails only if the loop has ended already.
            let _ = remote.shutdown(GRACE);
            outcome
        }
        Err(_) => Ok(()),
    };
    network
        .join()
        .map_err(|_| "the thread of the network panicked")??;
    Ok(outcome?)
}

thread_local! {
    /// The server of the thread of the network, for posted calls.
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

/// Runs the loop, on the thread of the network.
fn serve(options: &Options, window: &EventLoopProxy<News>, started: &Sender<Remote>) -> Result {
    let event_loop = EventLoop::new()?;
    let window = window.clone();
    let changed = move |clients| {
        // Fails only if the window is gone already.
        let _ = window.send_event(News::Clients(clients));
    };
    let server = Server::new(&event_loop, options, changed, |_, _| false)?;
    SERVER.set(Some(server));
    started.send(event_loop.remote())?;
    let outcome = event_loop.run();
    SERVER.set(None);
    Ok(outcome?)
}

struct App {
    window: Option<Window>,
    remote: Remote,
    /// The user has closed the window. It stays until the loop has ended.
    closing: bool,
    press: Option<Duration>,
    next_press: Option<Instant>,
}

impl App {
    /// The button. The closure runs on the thread of the network.
    fn press(&self) {
        let pressed = self.remote.post(|| {
            SERVER.with_borrow(|server| server.iter().for_each(Server::press));
        });
        if let Err(error) = pressed {
            let _ = writeln!(io::stderr(), "not sent: {error}");
        }
    }
}

impl ApplicationHandler<News> for App {
    fn resumed(&mut self, windows: &ActiveEventLoop) {
        match windows.create_window(WindowAttributes::default().with_title("asynchat")) {
            Ok(window) => self.window = Some(window),
            Err(error) => {
                let _ = writeln!(io::stderr(), "no window: {error}");
                windows.exit();
            }
        }
    }

    fn user_event(&mut self, windows: &ActiveEventLoop, news: News) {
        match (news, &self.window) {
            (News::Clients(count), Some(window)) => window.set_title(&format!("{count} clients")),
            (News::Clients(_), None) => {}
            (News::Over, _) => windows.exit(),
        }
    }

    fn window_event(&mut self, _: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        match event {
            // A second shutdown would begin the grace again.
            _ if self.closing => {}
            WindowEvent::CloseRequested => {
                self.closing = true;
                // The window closes when the loop has ended. It fails only if the loop has ended already.
                let _ = self.remote.shutdown(GRACE);
            }
            WindowEvent::MouseInput {
                state: ElementState::Pressed,
                ..
            } => self.press(),
            WindowEvent::KeyboardInput { event, .. } if event.state.is_pressed() => self.press(),
            _ => {}
        }
    }

    fn new_events(&mut self, windows: &ActiveEventLoop, _: StartCause) {
        if self.next_press.is_some_and(|at| at <= Instant::now()) {
            self.press();
            self.next_press = self.press.map(|period| Instant::now() + period);
        }
        windows.set_control_flow(match self.next_press {
            Some(at) => ControlFlow::WaitUntil(at),
            None => ControlFlow::Wait,
        });
    }
}
