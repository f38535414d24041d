//! Standard input and output as one channel, on each system. The tests start themselves as a child process, whose
//! standard streams they choose.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Child, Command, Stdio};

use asynchat::{Connector, Result, Socket, Terminator};

/// Set in the child process.
const CHILD: &str = "ASYNCHAT_TEST_STANDARD_STREAMS";

/// More than one read returns, and more than a pipe holds.
const LINES: usize = 50_000;

/// Repeats each line of its input, and ends with its input.
fn echo() -> Result {
    let streams = Connector::adopt(Socket::stdio()?);
    let chat = streams.connect(|chat| {
        move |line: &[u8]| {
            chat.push_slices(&[b"> ", line, b"\n"]);
            Ok(())
        }
    })?;
    chat.set_terminator(Terminator::line());
    // The test's own report may have begun a line.
    chat.push("\n");
    asynchat::run()?;
    Ok(())
}

/// A command that runs `test` of this program in another process, where it calls [`echo`].
fn itself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1");
    command
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// The lines of the output that are an echo. The others are those of the test's own report.
fn echoes(output: &str) -> Vec<&str> {
    output
        .lines()
        .filter_map(|line| line.strip_prefix("> "))
        .collect()
}

fn wait_for(mut child: Child) {
    assert!(child.wait().expect("it was started").success());
}

#[test]
fn a_dialogue_through_pipes() -> Result {
    if is_child() {
        return echo();
    }
    let mut child = itself("a_dialogue_through_pipes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    // Each line is answered while the input goes on.
    let mut received = String::new();
    for line in ["one", "two"] {
        input.write_all(format!("{line}\n").as_bytes())?;
        while !echoes(&received).contains(&line) {
            let mut buffer = [0; 1000];
            let count = output.read(&mut buffer)?;
            assert!(count > 0, "it has ended: {received}");
            received += std::str::from_utf8(&buffer[..count])?;
        }
    }
    // The end of the input ends the channel.
    drop(input);
    output.read_to_string(&mut received)?;
    assert_eq!(echoes(&received), ["one", "two"]);
    wait_for(child);
    Ok(())
}

#[test]
fn files_that_no_poller_can_wait_for() -> Result {
    if is_child() {
        return echo();
    }
    let mut input = tempfile::tempfile()?;
    input.write_all("a line\n".repeat(LINES).as_bytes())?;
    input.rewind()?;
    let mut output = tempfile::tempfile()?;
    let child = itself("files_that_no_poller_can_wait_for")
        .stdin(input)
        .stdout(output.try_clone()?)
        .spawn()?;
    wait_for(child);
    assert_eq!(echoes(&all_of(&mut output)?), vec!["a line"; LINES]);
    Ok(())
}

fn all_of(file: &mut File) -> Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn an_input_that_has_ended() -> Result {
    if is_child() {
        return echo();
    }
    let child = itself("an_input_that_has_ended")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.wait_with_output()?;
    assert!(output.status.success());
    assert!(echoes(std::str::from_utf8(&output.stdout)?).is_empty());
    Ok(())
}
