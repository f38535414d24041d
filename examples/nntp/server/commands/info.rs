//! The greeting and the commands CAPABILITIES, MODE READER, DATE, HELP and QUIT.

use asynchat::LinesProducer;

use super::super::date::{compact, now};
use super::super::linger;
use super::super::session::Session;
use super::{COMMANDS, Outcome, SYNTAX, auth, starttls};

/// The greeting, which is also the reply to MODE READER.
pub fn greeting(session: &Session) -> &'static str {
    if session.may_post() {
        "200 asynchat news server ready, posting allowed"
    } else {
        "201 asynchat news server ready, posting prohibited"
    }
}

/// RFC 3977, section 5.2. The argument is checked but has no effect: no capability
/// here depends on it.
pub fn capabilities(session: &mut Session, arguments: &[&str]) -> Outcome {
    let keyword = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if !arguments.iter().all(|word| word.chars().all(keyword)) {
        return Err(SYNTAX);
    }
    let mut lines = vec![
        "VERSION 2",
        concat!("IMPLEMENTATION asynchat ", env!("CARGO_PKG_VERSION")),
        "READER",
    ];
    if session.may_post() {
        lines.extend(["POST", "IHAVE"]);
    }
    lines.extend([
        "HDR",
        "LIST ACTIVE ACTIVE.TIMES COUNTS HEADERS NEWSGROUPS OVERVIEW.FMT SUBSCRIPTIONS",
        "NEWNEWS",
        "OVER MSGID",
    ]);
    lines.extend(starttls::is_offered(session).then_some("STARTTLS"));
    lines.extend(auth::capability(session));
    session.reply("101 capability list follows");
    session.block(LinesProducer::new(lines));
    Ok(())
}

pub fn mode(session: &mut Session, arguments: &[&str]) -> Outcome {
    if !arguments[0].eq_ignore_ascii_case("READER") {
        return Err(SYNTAX);
    }
    session.reply(greeting(session));
    Ok(())
}

pub fn date(session: &mut Session, _: &[&str]) -> Outcome {
    write!(session.chat, "111 {}\r\n", compact(now()));
    Ok(())
}

pub fn help(session: &mut Session, _: &[&str]) -> Outcome {
    session.reply("100 the commands of this server follow");
    let line = |command: &super::Command| match command.usage {
        "" => command.verb.to_owned(),
        usage => format!("{} {usage}", command.verb),
    };
    session.block(LinesProducer::new(COMMANDS.iter().map(line)));
    Ok(())
}

pub fn quit(session: &mut Session, _: &[&str]) -> Outcome {
    session.reply("205 goodbye");
    let chat = session.chat.clone();
    // Articles may still be in the queue, and nobody knows their lengths.
    session
        .chat
        .push_hook(move || linger::skip_if_short(&chat, 0));
    session.chat.close_when_done();
    Ok(())
}
