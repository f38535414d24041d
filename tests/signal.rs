//! Signals, in processes of their own: the binary runs itself again, and is sent real ones.
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

use asynchat::signal::{self, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use asynchat::{AsyncChat, Chat, Close, Result, SimpleProducer};
use common::DEADLINE;

/// Set in the process that a test starts.
const PART: &str = "ASYNCHAT_TEST_SIGNALLED";

/// How a line begins that it says.
const SAYS: &str = "> ";

fn say(line: &str) {
    println!("{SAYS}{line}");
}

/// The process that a test sends signals to; ended and reaped when this is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Runs `part` in a process of its own, if this is that one; else starts it. `test` is the name
    /// of the test.
    fn play(test: &str, part: fn() -> Result) -> Option<Self> {
        if env::var_os(PART).is_some() {
            part().expect("the part is played to its end");
            say("over");
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
    fn hear(&self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.expect("it says something in time")
    }

    #[track_caller]
    fn ends_well(mut self) {
        assert_eq!(self.hear(), "over");
        assert!(self.child.wait().expect("it is our child").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of one that has ended there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says, from a thread that ends with it.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let said = BufReader::new(stdout)
            .lines()
            .map_while(std::result::Result::ok);
        said.filter_map(|line| Some(line.split_once(SAYS)?.1.to_owned()))
            .map_while(|line| sender.send(line).ok())
            .for_each(drop);
    });
    lines
}

/// More than the kernel's buffers hold.
const BULK: usize = 64 << 20;

/// Says what becomes of it, and answers.
struct Bulky(Chat);

impl AsyncChat for Bulky {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        match line {
            b"bulk" => self
                .0
                .push_with_producer(SimpleProducer::new(vec![b'.'; BULK])),
            _ => self.0.push("hello\r\n"),
        }
        say("asked");
        Ok(())
    }
    fn handle_close(&mut self, why: &Close) {
        say(&format!("closed {}", common::name(why)));
    }
}

fn serve() -> Result {
    let listener = asynchat::listen("127.0.0.1:0", Bulky)?;
    // Long enough that a test which waits for it fails.
    signal::shutdown_on_ctrl_c(Duration::from_secs(3600))?;
    signal::on(SIGINT, || say("interrupted"))?;
    say(&common::addr_of(&listener).to_string());
    asynchat::run()
}

#[test]
fn the_first_shuts_the_loop_down_and_what_is_queued_arrives() {
    let test = "the_first_shuts_the_loop_down_and_what_is_queued_arrives";
    let Some(server) = Process::play(test, serve) else {
        return;
    };
    let mut client = TcpStream::connect(server.hear()).expect("it listens");
    client.set_read_timeout(Some(DEADLINE)).expect("it is open");
    client.write_all(b"bulk\r\n").expect("it reads");
    assert_eq!(server.hear(), "asked");
    server.signal(SIGTERM);
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("it is all sent");
    assert_eq!(received.len(), BULK);
    drop(client);
    assert_eq!(server.hear(), "closed Shutdown");
    server.ends_well();
}

#[test]
fn the_second_ends_it_at_once() {
    let Some(server) = Process::play("the_second_ends_it_at_once", serve) else {
        return;
    };
    let mut client = TcpStream::connect(server.hear()).expect("it listens");
    client.write_all(b"bulk\r\n").expect("it reads");
    assert_eq!(server.hear(), "asked");
    server.signal(SIGINT);
    // The client reads nothing: with the first alone the server would wait for an hour.
    assert_eq!(server.hear(), "interrupted");
    server.signal(SIGTERM);
    assert_eq!(server.hear(), "closed Shutdown");
    server.ends_well();
}

#[test]
fn others_are_calls_of_the_loop_as_often_as_they_come() {
    let test = "others_are_calls_of_the_loop_as_often_as_they_come";
    let part = || {
        let count = Rc::new(Cell::new(0));
        let counted = Rc::clone(&count);
        signal::on(SIGHUP, move || {
            counted.set(counted.get() + 1);
            say(&format!("hung up {}", counted.get()));
        })?;
        signal::on(SIGHUP, || panic!("on demand"))?;
        signal::on(SIGHUP, || say("and the next"))?;
        signal::on(SIGUSR1, asynchat::stop)?;
        // Something to run for.
        asynchat::call_later(DEADLINE * 2, || ());
        say("ready");
        asynchat::run()?;
        assert_eq!(count.get(), 2);
        Ok(())
    };
    let Some(process) = Process::play(test, part) else {
        return;
    };
    assert_eq!(process.hear(), "ready");
    for n in 1..=2 {
        process.signal(SIGHUP);
        assert_eq!(process.hear(), format!("hung up {n}"));
        assert_eq!(process.hear(), "and the next");
    }
    process.signal(SIGUSR1);
    process.ends_well();
}

#[test]
fn a_signal_that_cannot_be_asked_for_is_an_error() {
    const SIGKILL: i32 = 9;
    for signal in [SIGKILL, 0, -1, 127, 128, i32::MAX] {
        let outcome = signal::on(signal, || ());
        let error = outcome.expect_err("no such signal").to_string();
        assert!(error.contains(&format!("signal {signal}")), "{error}");
    }
}

#[test]
fn a_loop_that_is_asked_for_signals_has_nothing_to_run_for() -> Result {
    let calls: Rc<RefCell<u32>> = Rc::default();
    let event_loop = asynchat::EventLoop::new()?;
    let held = Rc::clone(&calls);
    event_loop.on_signal(SIGUSR1, move || *held.borrow_mut() += 1)?;
    event_loop.run()?;
    drop(event_loop);
    assert_eq!(Rc::strong_count(&calls), 1);
    Ok(())
}
