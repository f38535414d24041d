//! Child processes as chats.
#![cfg(unix)]

mod common;

use std::cell::RefCell;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::rc::Rc;

use asynchat::{Subprocess, Terminator};
use common::{Log, run_until};

type Exit = Rc<RefCell<Option<io::Result<ExitStatus>>>>;

/// Starts it on this thread's loop.
fn spawn(command: &mut Command, log: &Log) -> (Subprocess, Exit) {
    let exit = Exit::default();
    let outcome = Rc::clone(&exit);
    let session = log.session();
    let child = Subprocess::spawn(
        command,
        move |chat| {
            chat.set_terminator(Terminator::line());
            session(chat)
        },
        move |status| {
            let before = outcome.borrow_mut().replace(status);
            assert!(before.is_none(), "told twice");
        },
    );
    (child.unwrap(), exit)
}

fn status(exit: &Exit) -> ExitStatus {
    let status = exit.borrow_mut().take().expect("it was told");
    status.expect("it was waited for")
}

#[test]
fn lines_in_lines_out_and_the_status() {
    let log = Log::default();
    let script = "while read -r line; do echo \"got $line\"; done; exit 7";
    let (child, exit) = spawn(Command::new("sh").args(["-c", script]), &log);
    child.push("water\ngold\n");
    child.shutdown_write();
    // It returns when the chat has ended and the status was told.
    asynchat::run().unwrap();
    assert_eq!(log.count("record got water"), 1);
    assert_eq!(log.count("record got gold"), 1);
    assert_eq!(log.lines().last().unwrap(), "close Eof");
    assert_eq!(status(&exit).code(), Some(7));
}

#[test]
fn a_conversation() {
    let log = Log::default();
    let (child, exit) = spawn(&mut Command::new("cat"), &log);
    let event_loop = asynchat::EventLoop::current().unwrap();
    for n in 1..=100 {
        writeln!(child, "line {n}");
        run_until(&event_loop, || log.count(&format!("record line {n}")) == 1);
    }
    child.close_when_done();
    asynchat::run().unwrap();
    assert!(status(&exit).success());
}

#[test]
fn a_process_that_is_killed() {
    let log = Log::default();
    let (child, exit) = spawn(Command::new("sleep").arg("1000"), &log);
    assert!(child.process_id() > 0 && child.is_open());
    child.kill().unwrap();
    asynchat::run().unwrap();
    assert_eq!(status(&exit).signal(), Some(9));
    // It is nobody any more, and nobody else is hit.
    child.kill().unwrap();
}

#[test]
fn output_that_outlives_the_process_is_heard() {
    let log = Log::default();
    // The one that was started ends at once; what it has started holds the pipe and waits for input.
    let script = "exec 3<&0; (read -r line <&3; echo \"late $line\") & exit 0";
    let (child, exit) = spawn(Command::new("sh").args(["-c", script]), &log);
    let event_loop = asynchat::EventLoop::current().unwrap();
    run_until(&event_loop, || exit.borrow().is_some());
    child.push("news\n");
    asynchat::run().unwrap();
    assert_eq!(log.count("record late news"), 1);
}

#[test]
fn a_shutdown_waits_for_the_status() {
    let log = Log::default();
    let (_child, exit) = spawn(&mut Command::new("cat"), &log);
    asynchat::call_soon(|| asynchat::shutdown(common::DEADLINE));
    asynchat::run().unwrap();
    assert!(status(&exit).success());
    assert_eq!(log.lines().last().unwrap(), "close Shutdown");
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_is_collected_whatever_becomes_of_the_loop() {
    let log = Log::default();
    let (child, exit) = spawn(&mut Command::new("cat"), &log);
    asynchat::close_all();
    asynchat::run().unwrap();
    // It was reported, as what is known of it.
    let reported = exit.borrow_mut().take().expect("it was reported");
    let error = reported.expect_err("the loop did not wait for it");
    let number = child.process_id().to_string();
    assert!(error.to_string().contains(&number), "{error}");
    // A process that has ended and was not collected still has its entry.
    let entry = format!("/proc/{}", child.process_id());
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while std::path::Path::new(&entry).exists() {
        assert!(std::time::Instant::now() < deadline, "a zombie");
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_for_which_there_is_no_loop_is_ended_and_collected() {
    let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let (told, hears) = std::sync::mpsc::channel();
    asynchat::call_later(std::time::Duration::ZERO, move || {
        asynchat::shutdown(common::DEADLINE);
        let mut sleep = Command::new("sleep");
        let outcome = Subprocess::spawn(sleep.arg("1000"), |_| |_: &[u8]| Ok(()), |_| {});
        told.send((outcome.unwrap_err().to_string(), children()))
            .unwrap();
    });
    asynchat::run().unwrap();
    let (error, children) = hears.recv().unwrap();
    assert!(error.contains("shutting down"), "{error}");
    assert_eq!(children, "");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let none = "/nonexistent/program";
    let outcome = Subprocess::spawn(&mut Command::new(none), |_| |_: &[u8]| Ok(()), |_| {});
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(none), "{error}");
    asynchat::run().unwrap();
}
