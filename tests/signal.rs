//! Signals, in processes of their own: the test binary runs itself again and sends real signals to
//! it.
#![cfg(unix)]

mod common;

use std::cell::{Cell, RefCell};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use asynchat::signal::{self, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SignalId};
use asynchat::{AsyncChat, Chat, Close, Result, SimpleProducer};
use common::DEADLINE;

/// Set in the process that a test starts.
const PART: &str = "ASYNCHAT_TEST_SIGNALLED";

/// Lines that the process reports begin with this.
const REPORT: &str = "> ";

fn report(line: &str) {
    println!("{REPORT}{line}");
}

/// The process that a test sends signals to. Dropping this kills and reaps it.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Runs `part` if this is the child process. Otherwise starts the child process. `test` is the
    /// name of the test.
    fn run(test: &str, part: fn() -> Result) -> Option<Self> {
        if env::var_os(PART).is_some() {
            part().expect("the part succeeds");
            report("over");
            return None;
        }
        let binary = env::current_exe().expect("it runs");
        let mut child = Command::new(binary)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(PART, "")
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run again");
        let lines = lines_of(child.stdout.take().expect("it is a pipe"));
        Some(Process { child, lines })
    }

    fn signal(&self, signal: i32) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill")
            .args([format!("-{signal}"), pid])
            .status();
        assert!(kill.expect("there is a kill").success());
    }

    #[track_caller]
    fn next_report(&self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.expect("a report arrives in time")
    }

    #[track_caller]
    fn assert_success(mut self) {
        assert_eq!(self.next_report(), "over");
        assert!(self.child.wait().expect("it is our child").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reports of the process. The thread ends with it.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let output = BufReader::new(stdout)
            .lines()
            .map_while(std::result::Result::ok);
        output
            .filter_map(|line| Some(line.split_once(REPORT)?.1.to_owned()))
            .map_while(|line| sender.send(line).ok())
            .for_each(drop);
    });
    lines
}

/// More than the kernel's buffers.
const BULK: usize = 64 << 20;

/// Reports its close, and answers.
struct Bulky(Chat);

impl AsyncChat for Bulky {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"bulk" => self
                .0
                .push_with_producer(SimpleProducer::new(vec![b'.'; BULK])),
            _ => self.0.push("hello\r\n"),
        }
        report("asked");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        report(&format!("closed {}", common::name(why)));
    }
}

fn serve() -> Result {
    let listener = asynchat::listen("127.0.0.1:0", Bulky)?;
    // Longer than a test waits.
    signal::shutdown_on_ctrl_c(Duration::from_secs(3600))?;
    signal::on(SIGINT, || report("interrupted"))?;
    report(&common::addr_of(&listener).to_string());
    asynchat::run()?;
    Ok(())
}

#[test]
fn the_first_signal_shuts_the_loop_down_and_the_queue_is_sent() {
    let test = "the_first_signal_shuts_the_loop_down_and_the_queue_is_sent";
    let Some(server) = Process::run(test, serve) else {
        return;
    };
    let mut client = TcpStream::connect(server.next_report()).expect("it listens");
    client.set_read_timeout(Some(DEADLINE)).expect("it is open");
    client.write_all(b"bulk\r\n").expect("it reads");
    assert_eq!(server.next_report(), "asked");
    server.signal(SIGTERM);
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("it is all sent");
    assert_eq!(received.len(), BULK);
    drop(client);
    assert_eq!(server.next_report(), "closed Shutdown");
    server.assert_success();
}

#[test]
fn the_second_signal_aborts_the_shutdown() {
    let Some(server) = Process::run("the_second_signal_aborts_the_shutdown", serve) else {
        return;
    };
    let mut client = TcpStream::connect(server.next_report()).expect("it listens");
    client.write_all(b"bulk\r\n").expect("it reads");
    assert_eq!(server.next_report(), "asked");
    server.signal(SIGINT);
    // The client reads nothing. After the first signal alone the server would wait for an hour.
    assert_eq!(server.next_report(), "interrupted");
    server.signal(SIGTERM);
    assert_eq!(server.next_report(), "closed Interrupted");
    server.assert_success();
}

#[test]
fn a_handler_of_another_signal_runs_each_time_it_arrives() {
    let test = "a_handler_of_another_signal_runs_each_time_it_arrives";
    let part = || {
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        signal::on(SIGHUP, move || {
            counted.set(counted.get() + 1);
            report(&format!("hung up {}", counted.get()));
        })?;
        signal::on(SIGHUP, || panic!("on demand"))?;
        signal::on(SIGHUP, || report("and the next"))?;
        signal::on(SIGUSR1, asynchat::stop)?;
        // Something to run for.
        asynchat::call_later(DEADLINE * 2, || ());
        report("ready");
        asynchat::run()?;
        assert_eq!(count.get(), 2);
        Ok(())
    };
    let Some(process) = Process::run(test, part) else {
        return;
    };
    assert_eq!(process.next_report(), "ready");
    for n in 1..=2 {
        process.signal(SIGHUP);
        assert_eq!(process.next_report(), format!("hung up {n}"));
        assert_eq!(process.next_report(), "and the next");
    }
    process.signal(SIGUSR1);
    process.assert_success();
}

#[test]
fn a_call_that_is_cancelled_is_not_made_any_more() {
    let test = "a_call_that_is_cancelled_is_not_made_any_more";
    let part = || {
        // Cancels the call behind it, and itself, while the loop delivers the signal.
        let ids: Rc<RefCell<Vec<SignalId>>> = Rc::default();
        let cancelled = Rc::clone(&ids);
        let first = signal::on(SIGHUP, move || {
            report("first");
            assert!(cancelled.take().into_iter().all(signal::cancel));
            signal::on(SIGHUP, || report("late")).unwrap();
        })?;
        let second = signal::on(SIGHUP, || report("second"))?;
        signal::on(SIGHUP, || report("third"))?;
        ids.replace(vec![first, second]);
        let shutdown = signal::shutdown_on_ctrl_c(Duration::ZERO)?;
        signal::on(SIGINT, || report("interrupted"))?;
        signal::on(SIGTERM, || report("terminated"))?;
        signal::on(SIGUSR1, asynchat::stop)?;
        assert!(signal::cancel(shutdown));
        asynchat::call_later(DEADLINE * 2, || ());
        report("ready");
        asynchat::run()?;
        for id in [first, second, shutdown] {
            assert!(!signal::cancel(id));
        }
        Ok(())
    };
    let Some(process) = Process::run(test, part) else {
        return;
    };
    assert_eq!(process.next_report(), "ready");
    process.signal(SIGHUP);
    assert_eq!(process.next_report(), "first");
    assert_eq!(process.next_report(), "third");
    process.signal(SIGHUP);
    assert_eq!(process.next_report(), "third");
    assert_eq!(process.next_report(), "late");
    for (number, name) in [(SIGINT, "interrupted"), (SIGTERM, "terminated")] {
        process.signal(number);
        assert_eq!(process.next_report(), name);
    }
    process.signal(SIGUSR1);
    process.assert_success();
}

/// Cancels a call when it is dropped, as a user's destructor may.
struct CancelsAnother(SignalId, Rc<Cell<bool>>);

impl Drop for CancelsAnother {
    fn drop(&mut self) {
        self.1.set(signal::cancel(self.0));
    }
}

#[test]
fn a_cancelled_call_is_dropped_by_the_loop() -> Result {
    let event_loop = asynchat::EventLoop::new()?;
    let other = event_loop.on_signal(SIGUSR1, || ())?;
    let dropped = Rc::new(Cell::new(false));
    let captured = CancelsAnother(other, Rc::clone(&dropped));
    let id = event_loop.on_signal(SIGUSR1, move || {
        let _ = &captured;
    })?;
    assert!(!signal::cancel(id), "it belongs to another loop");
    assert!(event_loop.cancel_signal(id));
    assert!(!event_loop.cancel_signal(id));
    assert!(!dropped.get(), "no method runs a destructor");
    event_loop.run()?;
    assert!(dropped.get());
    assert!(!event_loop.cancel_signal(other));
    Ok(())
}

#[test]
fn a_signal_that_cannot_be_handled_is_an_error() {
    const SIGKILL: i32 = 9;
    for signal in [SIGKILL, 0, -1, 127, 128, i32::MAX] {
        let outcome = signal::on(signal, || ());
        let error = outcome.expect_err("no such signal").to_string();
        assert!(error.contains(&format!("signal {signal}")), "{error}");
    }
}

#[test]
fn signal_handlers_do_not_keep_a_loop_running() -> Result {
    let calls: Rc<RefCell<u32>> = Rc::default();
    let event_loop = asynchat::EventLoop::new()?;
    let calls_clone = Rc::clone(&calls);
    event_loop.on_signal(SIGUSR1, move || *calls_clone.borrow_mut() += 1)?;
    event_loop.run()?;
    drop(event_loop);
    assert_eq!(Rc::strong_count(&calls), 1);
    Ok(())
}
