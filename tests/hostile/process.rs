//! A test in processes of its own: the test binary runs itself again, with the name of a part to
//! run.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use crate::common::DEADLINE;

/// The part to run. Unset in the process of the test itself.
const PART: &str = "ASYNCHAT_TEST_PART";
/// How many descriptors the process may open.
const DESCRIPTORS: &str = "ASYNCHAT_TEST_DESCRIPTORS";
/// The argument of the part, from the parent process.
const ARGUMENT: &str = "ASYNCHAT_TEST_ARGUMENT";
/// Lines that a part reports to its parent begin with this.
const REPORT: &str = "> ";

/// The parts of a test, by name.
pub(crate) type Parts = [(&'static str, fn())];

/// Runs a test: its first part, in a process of its own with as many descriptors as the system
/// allows. That part may [start](Process::start) others.
///
/// `test` is the name of the test with its module.
#[track_caller]
pub(crate) fn run(test: &str, parts: &Parts) {
    if let Ok(wanted) = env::var(PART) {
        let part = parts.iter().find(|(name, _)| *name == wanted);
        return part.expect("a part of this test").1();
    }
    let output = command(test, parts[0].0, None)
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let stdout = String::from_utf8_lossy(&output.stdout);
    print!("{stdout}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    // A misspelt name runs no test, which counts as a success.
    let passed = output.status.success() && stdout.contains("1 passed");
    assert!(passed, "{}", output.status);
}

/// How many descriptors the process of this part may open.
pub(crate) fn descriptors() -> usize {
    let count = env::var(DESCRIPTORS).ok();
    count.and_then(|count| count.parse().ok()).unwrap_or(1024)
}

/// The argument that the parent process has passed.
pub(crate) fn argument() -> String {
    env::var(ARGUMENT).unwrap_or_default()
}

/// Reports a line to the parent process.
pub(crate) fn report(line: &str) {
    println!("{REPORT}{line}");
}

/// The commands of the parent process, up to its end.
pub(crate) fn commands() -> impl Iterator<Item = String> {
    io::stdin().lines().map_while(Result::ok)
}

/// A part that runs in another process. Dropping this kills and reaps the process.
pub(crate) struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a part of `test` with this argument, and at most this many descriptors.
    #[track_caller]
    pub(crate) fn start(
        test: &str,
        part: &str,
        argument: &str,
        descriptors: Option<usize>,
    ) -> Self {
        let mut child = command(test, part, descriptors)
            .env(ARGUMENT, argument)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let output = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let (sender, lines) = mpsc::channel();
        // The thread ends with the process. Output of the test harness may precede the prefix.
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            let output = lines.filter_map(|line| Some(line.split_once(REPORT)?.1.to_owned()));
            output
                .map_while(|line| sender.send(line).ok())
                .for_each(drop);
        });
        Process {
            commands: child.stdin.take(),
            child,
            lines,
        }
    }

    /// Sends a command.
    #[track_caller]
    pub(crate) fn send(&mut self, line: &str) {
        let commands = self.commands.as_mut().expect("the process runs");
        writeln!(commands, "{line}").expect("the process reads its commands");
    }

    /// The next line that the process has reported, if there is one.
    pub(crate) fn try_next_report(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Waits for the next line that the process reports.
    #[cfg(unix)]
    #[track_caller]
    pub(crate) fn next_report(&self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.expect("a report arrives in time")
    }

    /// Lets the process end, and checks its exit status.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.commands = None;
        let ended = loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(end) => break end == RecvTimeoutError::Disconnected,
            }
        };
        assert!(ended, "the process does not end");
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs this binary again.
fn command(test: &str, part: &str, descriptors: Option<usize>) -> Command {
    let binary = env::current_exe().expect("it runs");
    let mut command = if cfg!(unix) {
        // The limit cannot be set in another way without unsafe code. The shell process becomes the
        // test.
        let limit = match descriptors {
            Some(count) => format!("ulimit -n {count}"),
            // Where the hard limit is "unlimited", this many are allowed at least.
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
