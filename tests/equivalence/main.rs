//! The same sessions with a server on CPython's asynchat (server.py) and with its port to this
//! crate (server.rs). Both send the same bytes, under every segmentation of the input.
//!
//! [`differences::all`] lists the exceptions, each with its row in docs/porting.md. The exceptions
//! state both answers, so that neither can change unnoticed.

mod barrage;
mod differences;
mod names;

#[path = "../common/python.rs"]
mod python;
mod server;
mod session;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use asynchat::{Remote, Result};

use crate::python::Program;
use crate::session::{Cut, Session};

/// The port, in a thread of its own.
struct Port {
    addr: SocketAddr,
    remote: Remote,
    thread: JoinHandle<Result>,
}

impl Port {
    fn start() -> Self {
        let (sender, started) = mpsc::channel();
        let thread = thread::spawn(move || -> Result {
            let listener = server::listen("127.0.0.1:0")?;
            let addr = listener.local_addr().and_then(|addr| addr.inet());
            sender.send((addr.ok_or("no address")?, asynchat::remote()?))?;
            asynchat::run()?;
            Ok(())
        });
        let (addr, remote) = started.recv().expect("it starts");
        Port {
            addr,
            remote,
            thread,
        }
    }

    fn stop(self) {
        self.remote.stop().expect("it is running");
        let ended = self.thread.join().expect("it does not panic");
        ended.expect("its loop works");
    }
}

const CUTS: [Cut; 4] = [Cut::Whole, Cut::Bytes, Cut::Random(1), Cut::Random(2)];

/// Runs each session with both servers and every segmentation, and compares the output.
fn compare(sessions: impl IntoIterator<Item = (String, Session)>) {
    let Some(program) = Program::start("equivalence/server.py", &[]) else {
        return;
    };
    let port = Port::start();
    for (name, session) in sessions {
        let expected = session.run(program.addr, Cut::Whole);
        assert!(!expected.is_empty(), "{name}: asynchat sends nothing");
        for cut in CUTS {
            for (who, addr) in [("asynchat", program.addr), ("its port", port.addr)] {
                let received = session.run(addr, cut);
                let same = received
                    .iter()
                    .zip(&expected)
                    .take_while(|(a, b)| a == b)
                    .count();
                assert!(
                    received == expected,
                    "{name}, {cut:?}: {who} sends {} bytes, expected were {}; from byte {same}: {:?}, {:?}",
                    received.len(),
                    expected.len(),
                    excerpt(&received, same),
                    excerpt(&expected, same),
                );
            }
        }
    }
    port.stop();
}

fn excerpt(data: &[u8], from: usize) -> String {
    let end = data.len().min(from + 60);
    String::from_utf8_lossy(&data[from.min(end)..end]).into_owned()
}

#[test]
fn each_command_is_answered_the_same() {
    let long = "needle".repeat(50);
    let sessions = [
        ("empty records", "\r\n\r\nECHO\r\n\r\nQUIT\r\n".into()),
        ("half a terminator", "ECHO a\rb\nc\r\rd\r\nQUIT\r\n".into()),
        ("a count", "COUNT 5\r\n\r\n\r\nxECHO x\r\nQUIT\r\n".into()),
        ("a count of one", "COUNT 1\r\n\nCOUNT 1\r\nxQUIT\r\n".into()),
        (
            "count, line, count, line",
            "BODY 3\r\nabcend\r\nBODY 2\r\n\r\n\r\nQUIT\r\n".into(),
        ),
        ("a byte", "UNTIL ;\r\nMOVE 1 2;UNTIL ;\r\n;QUIT\r\n".into()),
        (
            "overlapping itself",
            "UNTIL qqq\r\naqqbqqqUNTIL qqq\r\nqqqQUIT\r\n".into(),
        ),
        (
            "a long needle",
            format!("UNTIL {long}\r\nneedle need {long}QUIT\r\n"),
        ),
        (
            "a block",
            "BLOCK\r\n..a\r\n\r\nb.\r\n...\r\n.\r\nECHO x\r\nQUIT\r\n".into(),
        ),
        (
            "more than the high-water mark",
            "PUSH 7000\r\n".repeat(60) + "QUIT\r\n",
        ),
        ("a push of a megabyte", "PUSH 1000000\r\nQUIT\r\n".into()),
        (
            "a simple producer",
            "SIMPLE 1\r\nSIMPLE 512\r\nSIMPLE 513\r\nSIMPLE 20000\r\nQUIT\r\n".into(),
        ),
        (
            "a producer of nothing",
            "SIMPLE 0\r\nFILE 0\r\nCOMPOSITE 0\r\nQUIT\r\n".into(),
        ),
        ("a file", "FILE 70000\r\nECHO behind it\r\nQUIT\r\n".into()),
        (
            "a composite",
            "COMPOSITE 3000\r\nECHO behind it\r\nQUIT\r\n".into(),
        ),
        (
            "hooks in their order",
            "HOOKED 2000\r\nHOOKED 1\r\nQUIT\r\n".into(),
        ),
        (
            "pushes between producers",
            "MIX 5000\r\nMIX 1\r\nQUIT\r\n".into(),
        ),
        ("a close behind a producer", "QUIT 100000\r\n".into()),
        (
            "a close behind many",
            "MIX 9000\r\nHOOKED 700\r\nQUIT 30000\r\n".into(),
        ),
    ];
    compare(sessions.map(|(name, say): (&str, String)| (name.to_owned(), Session::new().end(say))));
}

#[test]
fn each_end_is_the_same() {
    let received = |session: Session| session.receive("ECHO a\r\n", "echo a\r\n".len());
    let sessions = [
        ("the client goes", received(Session::new()).finish("")),
        (
            "in the middle of a line",
            received(Session::new()).finish("ECH"),
        ),
        (
            "in the middle of a count",
            received(Session::new()).finish("COUNT 10\r\nabc"),
        ),
        (
            "in the middle of a block",
            received(Session::new()).finish("BLOCK\r\nabc\r\n"),
        ),
        (
            "the server closes",
            received(Session::new()).end("CLOSE\r\n"),
        ),
        ("a callback fails", received(Session::new()).end("FAIL\r\n")),
        (
            "a size that is none",
            received(Session::new()).end("COUNT x\r\n"),
        ),
        (
            "a negative size",
            received(Session::new()).end("COUNT -1\r\n"),
        ),
        (
            "all that comes",
            Session::new()
                .receive("REST\r\na\r\nb\r\n", "rest a\r\nb\r\n".len())
                .finish(""),
        ),
        (
            "one after the other",
            received(received(Session::new()).end("QUIT\r\n")).end("QUIT\r\n"),
        ),
    ];
    compare(sessions.map(|(name, session)| (name.to_owned(), session)));
}

#[test]
fn barrages_are_answered_the_same() {
    let barrages = (0..16).map(|seed| {
        let session = Session::new().end(barrage::barrage(seed));
        (format!("barrage {seed}"), session)
    });
    compare(barrages);
}
