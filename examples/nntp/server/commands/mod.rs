//! The commands: one table, one function each, a file for each family.

mod articles;
pub mod auth;
mod groups;
pub mod info;
mod lists;
mod overview;
pub mod posting;
mod rows;

use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;

use asynchat::{DotStuffer, Producer};
use tracing::debug;

use super::complaint::Complaint;
use super::conduct::{is_foreign, verb};
use super::session::Session;
use super::spool::Group;

/// A command either replies, or is refused; `?` then keeps the order of checks
/// readable.
pub type Outcome<T = ()> = Result<T, Refusal>;

/// The reply line of a refused command, without its CRLF.
pub struct Refusal(&'static str);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        static UNREADABLE: Complaint = Complaint::new("an article's text can not be read");
        UNREADABLE.tell(&error);
        Refusal("403 the article's text can not be read")
    }
}

const SYNTAX: Refusal = Refusal("501 syntax error");

struct Command {
    verb: &'static str,
    /// What HELP says of the arguments.
    usage: &'static str,
    arguments: RangeInclusive<usize>,
    run: fn(&mut Session, &[&str]) -> Outcome,
}

/// In the order of RFC 3977, sections 5 to 8, then RFC 2980 and RFC 4643.
#[rustfmt::skip]
static COMMANDS: &[Command] = &[
    Command { verb: "CAPABILITIES", usage: "[keyword]", arguments: 0..=1, run: info::capabilities },
    Command { verb: "MODE", usage: "READER", arguments: 1..=1, run: info::mode },
    Command { verb: "QUIT", usage: "", arguments: 0..=0, run: info::quit },
    Command { verb: "GROUP", usage: "newsgroup", arguments: 1..=1, run: groups::group },
    Command { verb: "LISTGROUP", usage: "[newsgroup [range]]", arguments: 0..=2, run: groups::listgroup },
    Command { verb: "LAST", usage: "", arguments: 0..=0, run: groups::last },
    Command { verb: "NEXT", usage: "", arguments: 0..=0, run: groups::next },
    Command { verb: "ARTICLE", usage: "[message-id|number]", arguments: 0..=1, run: articles::article },
    Command { verb: "HEAD", usage: "[message-id|number]", arguments: 0..=1, run: articles::head },
    Command { verb: "BODY", usage: "[message-id|number]", arguments: 0..=1, run: articles::body },
    Command { verb: "STAT", usage: "[message-id|number]", arguments: 0..=1, run: articles::stat },
    Command { verb: "POST", usage: "", arguments: 0..=0, run: posting::post },
    Command { verb: "IHAVE", usage: "message-id", arguments: 1..=1, run: posting::ihave },
    Command { verb: "DATE", usage: "", arguments: 0..=0, run: info::date },
    Command { verb: "HELP", usage: "", arguments: 0..=0, run: info::help },
    Command { verb: "NEWGROUPS", usage: "[yy]yymmdd hhmmss [GMT]", arguments: 2..=3, run: lists::newgroups },
    Command { verb: "NEWNEWS", usage: "wildmat [yy]yymmdd hhmmss [GMT]", arguments: 3..=4, run: lists::newnews },
    Command { verb: "LIST", usage: "[ACTIVE|ACTIVE.TIMES|COUNTS|HEADERS|NEWSGROUPS|OVERVIEW.FMT|SUBSCRIPTIONS [argument]]", arguments: 0..=2, run: lists::list },
    Command { verb: "OVER", usage: "[message-id|range]", arguments: 0..=1, run: overview::over },
    Command { verb: "XOVER", usage: "[range]", arguments: 0..=1, run: overview::xover },
    Command { verb: "HDR", usage: "field [message-id|range]", arguments: 1..=2, run: overview::hdr },
    Command { verb: "XHDR", usage: "field [message-id|range]", arguments: 1..=2, run: overview::xhdr },
    Command { verb: "AUTHINFO", usage: "USER name|PASS password", arguments: 2..=2, run: auth::authinfo },
];

/// What a client may ask before it has said who it is (RFC 4643, section 2.2).
static OPEN_TO_ALL: &[&str] = &["CAPABILITIES", "MODE", "QUIT", "DATE", "HELP", "AUTHINFO"];

/// The most words that any command has, and one to see that there are more.
const MAX_WORDS: usize = 6;

/// Runs one command line: is it known (500), is it well-formed (501), is it
/// allowed (480), and then what the command itself checks. RFC 3977, section
/// 3.2.1, wants the general refusals before the command's own.
pub fn run(session: &mut Session, line: &[u8]) {
    if is_foreign(line) {
        return session.hang_up("this is a news server", line);
    }
    let outcome = match find(line) {
        None => Err(Refusal("500 unknown command")),
        Some(command) => call(command, session, line),
    };
    if let Err(Refusal(reply)) = outcome {
        // The verb only: an argument may be a password.
        debug!(verb = %verb(line).escape_ascii(), reply);
        if is_bad_command(reply) {
            return session.bad_command(reply, line);
        }
        session.reply(reply);
    }
    session.good_command();
}

/// Whether it was no command at all, or no well-formed one; any other refusal
/// is an answer to it.
fn is_bad_command(reply: &str) -> bool {
    reply.starts_with("500") || reply.starts_with("501")
}

fn find(line: &[u8]) -> Option<&'static Command> {
    let verb = verb(line);
    COMMANDS
        .iter()
        .find(|command| command.verb.as_bytes().eq_ignore_ascii_case(verb))
}

fn call(command: &Command, session: &mut Session, line: &[u8]) -> Outcome {
    if line.iter().any(|&b| b.is_ascii_control() && b != b'\t') {
        return Err(SYNTAX);
    }
    let line = std::str::from_utf8(line).map_err(|_| SYNTAX)?;
    let mut words = [""; MAX_WORDS];
    let mut count = 0;
    for (slot, word) in words.iter_mut().zip(line.split_ascii_whitespace()) {
        *slot = word;
        count += 1;
    }
    let arguments = &words[1..count];
    if !command.arguments.contains(&arguments.len()) {
        return Err(SYNTAX);
    }
    if !session.login.done() && !OPEN_TO_ALL.contains(&command.verb) {
        return Err(Refusal("480 authentication required"));
    }
    (command.run)(session, arguments)
}

impl Session {
    /// Pushes the lines that follow a reply: dot-stuffed, with a line with a
    /// dot at the end.
    fn block(&self, lines: impl Producer + 'static) {
        self.chat.push_with_producer(DotStuffer::new(lines));
    }

    /// The group selected.
    fn selected(&self) -> Outcome<Rc<Group>> {
        self.group
            .clone()
            .ok_or(Refusal("412 no newsgroup selected"))
    }
}
