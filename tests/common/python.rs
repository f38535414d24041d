//! A Python that has asynchat, for tests that compare this crate with it: CPython up to 3.11, or a
//! later one with `pyasyncore` and `pyasynchat` from PyPI.

#[path = "skip.rs"]
mod skip;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long a program may take to start. Far longer than it needs.
const DEADLINE: Duration = Duration::from_secs(20);

/// A Python that can import asynchat. Without one the result is `None`, and the test is reported as
/// skipped; with `ASYNCHAT_REQUIRE_PYTHON=1` in the environment, as CI has it, the test fails.
pub(crate) fn python() -> Option<Command> {
    static NAME: OnceLock<Option<&str>> = OnceLock::new();
    let Some(name) = NAME.get_or_init(find) else {
        let required = std::env::var("ASYNCHAT_REQUIRE_PYTHON").is_ok_and(|value| value == "1");
        assert!(!required, "python3 with asynchat is not installed");
        skip::skipped("python3 with asynchat is not installed");
        return None;
    };
    let mut python = Command::new(name);
    python.args(["-W", "ignore"]);
    python.current_dir(env!("CARGO_MANIFEST_DIR"));
    Some(python)
}

fn find() -> Option<&'static str> {
    let mut names = ["python3", "python", "python3.11", "python3.10"].into_iter();
    names.find(|name| {
        let mut python = Command::new(name);
        python.args(["-W", "ignore", "-c", "import asyncore, asynchat"]);
        python.stdin(Stdio::null()).stderr(Stdio::null());
        python.status().is_ok_and(|status| status.success())
    })
}

/// A program of tests/ that listens. It ends when this is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Program {
    /// `None` when no Python has asynchat.
    pub(crate) fn start(script: &str, args: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(script);
        let mut python = python()?;
        python.arg(script).args(args);
        let started = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("it ran before");
        let output = lines(&mut child);
        let first = output
            .recv_timeout(DEADLINE)
            .expect("the program prints a line");
        let addr = first.strip_prefix("listening on ").unwrap_or_else(|| {
            let rest: Vec<_> = output.iter().collect();
            panic!("{first}\n{}", rest.join("\n"))
        });
        let addr = addr.parse().expect("an address");
        Some(Program { child, addr })
    }
}

/// The lines that the program prints. A thread reads them to their end, so that the program never blocks.
fn lines(child: &mut Child) -> Receiver<String> {
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}

impl Program {
    #[allow(dead_code, reason = "one test sends a signal")]
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // the programs end at the end of their input
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
