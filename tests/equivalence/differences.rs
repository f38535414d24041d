//! Sessions that asynchat and this crate answer differently.

use std::fs;
use std::path::Path;

use crate::Port;
use crate::python::Program;
use crate::session::{Cut, Session};

struct Difference {
    /// The beginning of the row in section "What differs" of docs/porting.md.
    row: &'static str,
    session: Session,
    python: Python,
    port_sends: String,
}

enum Python {
    Sends(&'static str),
    /// A proper prefix of what the port sends.
    SendsPrefix,
}

use Python::{Sends, SendsPrefix};

fn all() -> Vec<Difference> {
    let difference = |row, session, python, port_sends: &str| Difference {
        row,
        session,
        python,
        port_sends: port_sends.to_owned(),
    };
    let large = 3_000_000;
    let pattern: String = ('a'..='z').cycle().step_by(7).take(large).collect();
    let long = "a".repeat(9000);
    let long_answer: &'static str = format!("echo {long}\r\nbye\r\n").leak();
    vec![
        difference(
            "`push` sends, and may call",
            Session::new().end("PUSHED\r\nQUIT\r\n"),
            Sends("something sent\r\nbye\r\n"),
            "something queued\r\nbye\r\n",
        ),
        difference(
            "what was pushed before a `close`",
            Session::new().end("BYE\r\n"),
            Sends("bye\r\n"),
            "",
        ),
        difference(
            "after a close in `found_terminator` the lines",
            Session::new()
                .end("CLOSE\r\nNOTE a\r\n")
                .end("NOTES\r\nQUIT\r\n"),
            Sends("notes a\r\nbye\r\n"),
            "notes \r\nbye\r\n",
        ),
        difference(
            "after a close in `found_terminator` the lines",
            Session::new()
                .end("QUIT\r\nNOTE b\r\n")
                .end("NOTES\r\nQUIT\r\n"),
            Sends("bye\r\nnotes b\r\nbye\r\n"),
            "bye\r\nnotes \r\nbye\r\n",
        ),
        difference(
            "`handle_close` can be called twice",
            Session::new()
                .receive("NAME a\r\n", 7)
                .reset()
                .end("CLOSED a\r\nQUIT\r\n"),
            Sends("named\r\nclosed 2\r\nbye\r\n"),
            "named\r\nclosed 1\r\nbye\r\n",
        ),
        difference(
            "a peer's half-close drops the reply",
            Session::new().finish(format!("SIMPLE {large}\r\n")),
            SendsPrefix,
            &format!("{pattern}\r\n"),
        ),
        difference(
            "`handle_connect` is not called for accepted sockets",
            Session::new().end("CONNECTED\r\nQUIT\r\n"),
            Sends("not told\r\nbye\r\n"),
            "told\r\nbye\r\n",
        ),
        difference(
            "a line without an end fills the memory",
            Session::new().end(format!("ECHO {long}\r\nQUIT\r\n")),
            Sends(long_answer),
            "",
        ),
        difference(
            "a producer whose `len()` is 0",
            Session::new().end("FALSY\r\nQUIT\r\n"),
            Sends("one behind it\r\nbye\r\n"),
            "one two\r\nbehind it\r\nbye\r\n",
        ),
        difference(
            "a push from inside `more` loses",
            Session::new().finish("REENTER\r\n"),
            Sends("aho behind it\r\nlast\r\n"),
            "aho behind it\r\nlast\r\nfrom the hook\r\n",
        ),
        difference(
            "an `int` terminator counts itself down",
            Session::new().finish("COUNT 0\r\nECHO a\r\n"),
            Sends(""),
            "record \r\necho a\r\n",
        ),
        difference(
            "an `int` terminator counts itself down",
            Session::new().finish("EACH 2\r\naabbcc"),
            Sends("each aa\r\n"),
            "each aa\r\neach bb\r\neach cc\r\n",
        ),
        difference(
            "`\\r\\n.\\r\\n` waits for ever",
            Session::new().finish("BLOCK\r\n.\r\nECHO a\r\n"),
            Sends(""),
            "block \r\necho a\r\n",
        ),
        difference(
            "text that is decoded in `collect_incoming_data`",
            Session::new()
                .receive("TEXT\r\n", "go on\r\n".len())
                .end("ECHO \u{e9}\r\nQUIT\r\n"),
            Sends("go on\r\n"),
            "go on\r\necho \u{e9}\r\nbye\r\n",
        ),
        difference(
            "an exception in `found_terminator` leaves the lines",
            Session::new().finish("CAUGHT\r\nECHO a\r\n"),
            Sends("caught\r\n"),
            "caught\r\necho a\r\n",
        ),
    ]
}

#[test]
fn the_differences_are_those_that_are_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/porting.md")).expect("the document exists");
    let (_, document) = document.split_once("## What differs").expect("a section");
    let program = Program::start("equivalence/server.py", &["poll"]);
    let port = Port::start();
    for Difference {
        row,
        session,
        python,
        port_sends,
    } in all()
    {
        assert!(
            document.contains(&format!("\n| {row}")),
            "not documented: {row}"
        );
        let received = String::from_utf8(session.run(port.addr, Cut::Whole)).expect("it is text");
        assert!(
            received == port_sends,
            "{row}: the port sends {}",
            beginning(&received)
        );
        let Some(program) = &program else {
            continue;
        };
        let received =
            String::from_utf8(session.run(program.addr, Cut::Whole)).expect("it is text");
        let as_documented = match python {
            Sends(python) => received == python && python != port_sends,
            SendsPrefix => port_sends.starts_with(&received) && received.len() < port_sends.len(),
        };
        assert!(
            as_documented,
            "{row}: asynchat sends {}",
            beginning(&received)
        );
    }
    port.stop();
}

fn beginning(text: &str) -> String {
    text.escape_debug().take(200).collect()
}
