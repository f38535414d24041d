//! A Python that has asynchat, for the tests that hold this crate against it: CPython up to 3.11, or
//! a later one with `pyasyncore` and `pyasynchat` from PyPI.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// How long a program may take to start. Far more than it takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A Python that can import asynchat. `None`, which is said, where there is none; with
/// `ASYNCHAT_REQUIRE_PYTHON=1` in the environment that is a failure.
pub(crate) fn python() -> Option<Command> {
    static NAME: OnceLock<Option<&str>> = OnceLock::new();
    let Some(name) = NAME.get_or_init(find) else {
        let required = std::env::var("ASYNCHAT_REQUIRE_PYTHON").is_ok_and(|value| value == "1");
        assert!(!required, "no python3 here has asynchat");
        println!("skipped: no python3 here has asynchat");
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
    /// `None` where no Python has asynchat.
    pub(crate) fn start(script: &str, args: &[&str]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests")
            .join(script);
        let mut python = python()?;
        python.arg(script).args(args);
        let started = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("it has run before");
        let said = lines(&mut child);
        let first = said.recv_timeout(DEADLINE).expect("it says something");
        let addr = first.strip_prefix("listening on ").unwrap_or_else(|| {
            let rest: Vec<_> = said.iter().collect();
            panic!("{first}\n{}", rest.join("\n"))
        });
        let addr = addr.parse().expect("an address");
        Some(Program { child, addr })
    }
}

/// What it prints. It is read to its end, so that the program never waits for us.
fn lines(child: &mut Child) -> Receiver<String> {
    let stdout = child.stdout.take().expect("it is piped");
    let (said, hear) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = said.send(line);
        }
    });
    hear
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take()); // a program of ours ends with its input
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
