//! The commands: a table with a function for each, in a file for each family.

mod articles;
pub mod auth;
mod groups;
pub mod info;
mod lists;
mod overview;
pub mod posting;
mod rows;
pub mod starttls;

use std::io;
use std::ops::RangeInclusive;
use std::rc::Rc;

use asynchat::{DotStuffer, Producer};
use tracing::debug;

use super::client_errors::{is_other_protocol, verb};
use super::session::Session;
use super::spool::Group;
use super::throttled_warning::ThrottledWarning;

/// The result of a command. A command either replies or returns a refusal, so that
/// its checks can use `?`.
pub type Outcome<T = ()> = Result<T, Refusal>;

/// The reply line of a refused command, without its CRLF.
pub struct Refusal(&'static str);

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        static UNREADABLE: ThrottledWarning =
            ThrottledWarning::new("cannot read the text of an article");
        UNREADABLE.log(&error);
        Refusal("403 the article's text cannot be read")
    }
}

const SYNTAX: Refusal = Refusal("501 syntax error");

struct Command {
    verb: &'static str,
    /// The arguments, as HELP shows them.
    usage: &'static str,
    arguments: RangeInclusive<usize>,
    run: fn(&mut Session, &[&str]) -> Outcome,
}

/// In the order of RFC 3977, sections 5 to 8, then RFC 2980, RFC 4642 and RFC 4643.
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
    Command { verb: "STARTTLS", usage: "", arguments: 0..=0, run: starttls::starttls },
    Command { verb: "AUTHINFO", usage: "USER name|PASS password", arguments: 2..=2, run: auth::authinfo },
];

/// Commands that are allowed before the log-in (RFC 4643, section 2.2).
#[rustfmt::skip]
static BEFORE_LOGIN: &[&str] =
    &["CAPABILITIES", "MODE", "QUIT", "DATE", "HELP", "STARTTLS", "AUTHINFO"];

/// One more than the longest command has words, so that a surplus word is noticed.
const MAX_WORDS: usize = 6;

/// Runs one command line. It checks whether the command is known (500),
/// well-formed (501) and allowed (480). The command itself makes further checks.
/// RFC 3977, section 3.2.1, requires this order.
pub fn run(session: &mut Session, line: &[u8]) {
    if is_other_protocol(line) {
        return session.hang_up("this is a news server", line);
    }
    let outcome = match find(line) {
        None => Err(Refusal("500 unknown command")),
        Some(command) => call(command, session, line),
    };
    if let Err(Refusal(reply)) = outcome {
        // Only the verb is logged, because an argument may be a password.
        debug!(verb = %verb(line).escape_ascii(), reply);
        if is_bad_command(reply) {
            return session.bad_command(reply, line);
        }
        session.reply(reply);
    }
    session.good_command();
}

/// Whether the reply refuses an unknown or a malformed command. After any other
/// refusal the command counts as a good one.
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
    if !session.login.is_complete() && !BEFORE_LOGIN.contains(&command.verb) {
        return Err(Refusal("480 authentication required"));
    }
    (command.run)(session, arguments)
}

impl Session {
    /// Pushes the multi-line block of a reply: dot-stuffed lines and the final dot
    /// line.
    fn block(&self, lines: impl Producer + 'static) {
        self.chat.push_with_producer(DotStuffer::new(lines));
    }

    /// The selected group.
    fn selected(&self) -> Outcome<Rc<Group>> {
        self.group
            .clone()
            .ok_or(Refusal("412 no newsgroup selected"))
    }
}
