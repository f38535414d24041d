//! Child processes as chats.
#![cfg(all(unix, not(target_os = "openbsd")))]

mod common;

use std::cell::RefCell;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;

use asynchat::{Connector, ExitWatcher, Subprocess, Terminator};
use common::{Log, run_until};

type Exit = Rc<RefCell<Option<io::Result<ExitStatus>>>>;

/// Starts the command on the loop of this thread.
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
            assert!(before.is_none(), "the status was reported twice");
        },
    );
    (child.unwrap(), exit)
}

fn status(exit: &Exit) -> ExitStatus {
    let status = exit.borrow_mut().take().expect("the status was reported");
    status.expect("it was waited for")
}

#[test]
fn a_process_gets_lines_and_its_output_and_status_are_reported() {
    let log = Log::default();
    let script = "while read -r line; do echo \"got $line\"; done; exit 7";
    let (child, exit) = spawn(Command::new("sh").args(["-c", script]), &log);
    child.chat().push("water\ngold\n");
    child.chat().shutdown_write();
    // The loop returns when the chat has ended and the status was reported.
    asynchat::run().unwrap();
    assert_eq!(log.count("record got water"), 1);
    assert_eq!(log.count("record got gold"), 1);
    assert_eq!(log.lines().last().unwrap(), "close Eof");
    assert_eq!(status(&exit).code(), Some(7));
}

#[test]
fn a_process_and_a_session_may_converse() {
    let log = Log::default();
    let (child, exit) = spawn(&mut Command::new("cat"), &log);
    let event_loop = asynchat::EventLoop::current().unwrap();
    for n in 1..=100 {
        writeln!(child.chat(), "line {n}");
        run_until(&event_loop, || log.count(&format!("record line {n}")) == 1);
    }
    child.chat().close_when_done();
    asynchat::run().unwrap();
    assert!(status(&exit).success());
}

#[test]
fn a_killed_process_is_reported() {
    let log = Log::default();
    let (child, exit) = spawn(Command::new("sleep").arg("1000"), &log);
    assert!(child.process_id() > 0 && child.chat().is_open());
    child.kill().unwrap();
    asynchat::run().unwrap();
    assert_eq!(status(&exit).signal(), Some(9));
    // The process has been collected, so a second kill reaches no other process with its number.
    child.kill().unwrap();
}

#[test]
fn output_after_the_end_of_the_process_is_received() {
    let log = Log::default();
    // The process ends at once. Its child holds the pipe and waits for input.
    let script = "exec 3<&0; (read -r line <&3; echo \"late $line\") & exit 0";
    let (child, exit) = spawn(Command::new("sh").args(["-c", script]), &log);
    let event_loop = asynchat::EventLoop::current().unwrap();
    run_until(&event_loop, || exit.borrow().is_some());
    child.chat().push("line\n");
    asynchat::run().unwrap();
    assert_eq!(log.count("record late line"), 1);
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
fn a_process_is_collected_although_its_loop_is_dropped() {
    let log = Log::default();
    let (child, exit) = spawn(&mut Command::new("cat"), &log);
    asynchat::close_all();
    asynchat::run().unwrap();
    // An error was reported, because the status is unknown.
    let reported = exit.borrow_mut().take().expect("it was reported");
    let error = reported.expect_err("the loop did not wait for it");
    let number = child.process_id().to_string();
    assert!(error.to_string().contains(&number), "{error}");
    // A process that has ended and was not collected still has its entry.
    let entry = format!("/proc/{}", child.process_id());
    let deadline = std::time::Instant::now() + common::DEADLINE;
    while std::path::Path::new(&entry).exists() {
        assert!(
            std::time::Instant::now() < deadline,
            "the process was not collected"
        );
        std::thread::yield_now();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_that_cannot_be_registered_is_killed_and_collected() {
    let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let (sender, receiver) = std::sync::mpsc::channel();
    asynchat::call_later(std::time::Duration::ZERO, move || {
        asynchat::shutdown(common::DEADLINE);
        let mut sleep = Command::new("sleep");
        let outcome = Subprocess::spawn(sleep.arg("1000"), |_| |_: &[u8]| Ok(()), |_| {});
        sender
            .send((outcome.unwrap_err().to_string(), children()))
            .unwrap();
    });
    asynchat::run().unwrap();
    let (error, children) = receiver.recv().unwrap();
    assert!(error.contains("shutting down"), "{error}");
    assert_eq!(children, "");
}

#[test]
fn the_error_for_a_missing_program_names_it() {
    let none = "/nonexistent/program";
    let outcome = Subprocess::spawn(&mut Command::new(none), |_| |_: &[u8]| Ok(()), |_| {});
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains(none), "{error}");
    asynchat::run().unwrap();
}

#[test]
fn the_standard_error_of_a_process_is_a_chat_of_its_own() {
    let (log, errors) = (Log::default(), Log::default());
    let mut command = Command::new("sh");
    command.args(["-c", "echo result; echo warning >&2; exit 3"]);
    let (child, exit) = spawn(command.stderr(Stdio::piped()), &log);
    let stderr = child.take_stderr().expect("it is piped");
    assert!(child.take_stderr().is_none(), "it was taken");
    let chat = Connector::adopt(stderr).connect(errors.session()).unwrap();
    chat.set_terminator(Terminator::line());
    asynchat::run().unwrap();
    assert!(log.has("record result"));
    assert_eq!(
        errors.lines(),
        ["connect", "record warning", "eof ", "close Eof"]
    );
    assert_eq!(status(&exit).code(), Some(3));
    let (plain, _) = spawn(&mut Command::new("true"), &log);
    assert!(plain.take_stderr().is_none(), "it is that of this process");
    asynchat::run().unwrap();
}

/// A child that `Subprocess` did not start, and what its watcher reports.
fn watch(command: &mut Command) -> (ExitWatcher, Exit) {
    let exit = Exit::default();
    let outcome = Rc::clone(&exit);
    let watcher = ExitWatcher::watch(command.spawn().unwrap(), move |status| {
        let before = outcome.borrow_mut().replace(status);
        assert!(before.is_none(), "the status was reported twice");
    });
    (watcher.unwrap(), exit)
}

#[test]
fn the_end_of_any_child_is_reported() {
    let (watcher, exit) = watch(Command::new("sh").args(["-c", "exit 5"]));
    drop(watcher);
    // Without an end of its standard input `cat` would not end.
    let (_watcher, of_cat) = watch(Command::new("cat").stdin(Stdio::piped()));
    asynchat::run().unwrap();
    assert_eq!(status(&exit).code(), Some(5));
    assert!(status(&of_cat).success());
}

#[test]
fn a_watched_child_can_be_killed() {
    let (watcher, exit) = watch(Command::new("sleep").arg("1000"));
    watcher.kill().unwrap();
    asynchat::run().unwrap();
    assert_eq!(status(&exit).signal(), Some(9));
    assert!(watcher.process_id() > 0);
}

#[test]
fn a_loop_that_stops_waiting_reports_that() {
    let (watcher, exit) = watch(Command::new("sleep").arg("1000"));
    asynchat::close_all();
    asynchat::run().unwrap();
    let reported = exit.borrow_mut().take().expect("it was reported");
    assert!(reported.is_err());
    watcher.kill().unwrap();
}

#[test]
fn a_process_may_belong_to_a_loop_that_is_not_that_of_its_thread() {
    let log = Log::default();
    let event_loop = common::new_loop();
    let ends = Rc::new(RefCell::new(Vec::new()));
    let (session, of_cat, of_sh) = (log.session(), Rc::clone(&ends), Rc::clone(&ends));
    let cat = Subprocess::spawn_on(
        &event_loop,
        &mut Command::new("cat"),
        move |chat| {
            chat.set_terminator(Terminator::line());
            session(chat)
        },
        move |status| of_cat.borrow_mut().push(status.unwrap().code()),
    )
    .unwrap();
    cat.chat().push("gold\n");
    cat.chat().shutdown_write();
    let sh = Command::new("sh").args(["-c", "exit 6"]).spawn().unwrap();
    ExitWatcher::watch_on(&event_loop, sh, move |status| {
        of_sh.borrow_mut().push(status.unwrap().code());
    })
    .unwrap();
    assert!(asynchat::EventLoop::current().unwrap().is_empty());
    event_loop.run().unwrap();
    assert!(log.has("record gold"));
    let mut ends = ends.take();
    ends.sort_unstable();
    assert_eq!(ends, [Some(0), Some(6)]);
}
