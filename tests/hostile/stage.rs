//! A test in processes of its own: the binary runs itself again, with the name of a part to play.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::common::DEADLINE;

/// Which part to play; unset, the test itself.
const PART: &str = "ASYNCHAT_TEST_PART";
/// How many descriptors it has.
const DESCRIPTORS: &str = "ASYNCHAT_TEST_DESCRIPTORS";
/// What the process that has started it wants it to know.
const ABOUT: &str = "ASYNCHAT_TEST_ABOUT";
/// How a line begins that a part says to the process that has started it.
const SAYS: &str = "> ";

/// The parts of a test, by their names.
pub(crate) type Parts = [(&'static str, fn())];

/// Plays a test: the first of its parts, in a process of its own that has as many descriptors as
/// the system gives it. That part may [start](Process::start) others.
///
/// `test` is the test's name with its modules.
#[track_caller]
pub(crate) fn play(test: &str, parts: &Parts) {
    if let Ok(wanted) = env::var(PART) {
        let part = parts.iter().find(|(name, _)| *name == wanted);
        return part.expect("a part of this test").1();
    }
    let output = command(test, parts[0].0, None)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    // A name that is misspelt runs no test, and that succeeds.
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{}", output.status);
}

/// How many descriptors the process of this part may have open.
pub(crate) fn descriptors() -> usize {
    let count = env::var(DESCRIPTORS).ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(1024)
}

/// What the process that started this part told it.
pub(crate) fn about() -> String {
    env::var(ABOUT).unwrap_or_default()
}

/// Says a line to the process that started this part.
pub(crate) fn say(line: &str) {
    println!("{SAYS}{line}");
}

/// The lines that the process that started this part says to it, to the end of that process.
pub(crate) fn told() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}

/// A part that is played in another process; ended and reaped when this is dropped.
pub(crate) struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a part of `test`, that knows this much, with at most this many descriptors.
    #[track_caller]
    pub(crate) fn start(test: &str, part: &str, about: &str, descriptors: Option<usize>) -> Self {
        let mut child = command(test, part, descriptors)
            .env(ABOUT, about)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = mpsc::channel();
        // It ends with the process. A line may begin with what the test harness says.
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let said = lines.filter_map(|line| Some(line.split_once(SAYS)?.1.to_owned()));
            said.map_while(|line| sender.send(line).ok()).for_each(drop);
        });
        Process {
            orders: child.stdin.take(),
            child,
            lines,
        }
    }

    /// Tells it a line.
    #[track_caller]
    pub(crate) fn tell(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("it is not over");
        writeln!(orders, "{line}").expect("it listens");
    }

    /// What it has said meanwhile, a line.
    pub(crate) fn heard(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits for the next line that it says.
    #[track_caller]
    pub(crate) fn hear(&self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.expect("it says something in time")
    }

    /// Has it come to its end, and checks that it was a good one.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.orders = None;
        let ended = loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(end) => break end == RecvTimeoutError::Disconnected,
            }
        };
        assert!(ended, "it does not end");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of one that has ended there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This binary, to be run again.
fn command(test: &str, part: &str, descriptors: Option<usize>) -> Command {
    let binary = env::current_exe().expect("it runs");
    let mut command = if cfg!(unix) {
        // Nothing else sets the limit without unsafe code. The shell's process becomes ours.
        let limit = match descriptors {
            Some(count) => format!("ulimit -n {count}"),
            // Where the most is "unlimited", so many are allowed all the same.
            None => r#"ulimit -n "$(ulimit -Hn)" 2>&- || ulimit -n 10240 2>&- || :"#.to_owned(),
        };
        let run = format!(r#"{limit}; {DESCRIPTORS}=$(ulimit -n) exec "$0" "$@""#);
        let mut shell = Command::new("sh");
        shell.args(["-ec", &run]).arg(binary);
        shell
    } else {
        Command::new(binary)
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(PART, part);
    command
}
