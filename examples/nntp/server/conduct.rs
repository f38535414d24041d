//! When the server hangs up on a client: for speaking another protocol, for
//! nothing but bad commands, for guessing passwords. Each gets a 400 first, the
//! answer to any command of a client that has to go (RFC 3977, section 3.2.1).

use tracing::debug;

use super::session::Session;

/// What a client has got wrong so far.
#[derive(Default)]
pub struct Conduct {
    /// Since the last good command. Only those in a row count, as in Postfix's
    /// smtpd_hard_error_limit: a client in good faith sends good ones between.
    bad_commands: usize,
    failed_logins: usize,
}

impl Session {
    /// Says what was wrong with a command line, and hangs up when that was one
    /// too many in a row.
    pub(super) fn bad_command(&mut self, reply: &str, line: &[u8]) {
        self.conduct.bad_commands += 1;
        if self.conduct.bad_commands < self.service.options.max_bad_commands {
            self.reply(reply);
        } else {
            self.hang_up("too many bad commands", line);
        }
    }

    /// A command was well-formed, whatever came of it.
    pub(super) fn good_command(&mut self) {
        self.conduct.bad_commands = 0;
    }

    /// Tells the client that its log-in has failed, and hangs up when that was one too many.
    pub(super) fn failed_login(&mut self, reply: &str) {
        self.conduct.failed_logins += 1;
        if self.conduct.failed_logins < self.service.options.max_failed_logins {
            self.reply(reply);
        } else {
            self.hang_up("too many failed log-ins", b"AUTHINFO");
        }
    }

    /// Ends the session after a last reply. What the client goes on sending is
    /// not looked at, and yet the reply reaches it: the loop lingers.
    pub(super) fn hang_up(&self, why: &str, line: &[u8]) {
        let verb = verb(line);
        let verb = verb.get(..32).unwrap_or(verb).escape_ascii();
        debug!(%verb, "hanging up: {why}");
        write!(self.chat, "400 {why}\r\n");
        self.chat.close_when_done();
    }
}

/// The first word of a command line.
pub fn verb(line: &[u8]) -> &[u8] {
    line.split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default()
}

/// Words that begin a session of HTTP or SMTP and no command of NNTP.
const FOREIGN: &[&str] = &[
    "CONNECT", "DELETE", "EHLO", "GET", "HELO", "LHLO", "OPTIONS", "PATCH", "PRI", "PUT", "TRACE",
];

/// The two that HTTP and NNTP both have; no message-id or number is a path.
const SHARED: &[&str] = &["HEAD", "POST"];

/// Whether a line is of another protocol: a request of HTTP, a greeting of SMTP,
/// or a header field of either, such as the Host of a request whose first line
/// was too long to be looked at.
///
/// A browser, or a proxy, that is made to send a request to this port sends what
/// its author likes in the body of it, commands too; so nothing after such a
/// line may be read. (ALPACA, CVE-2021-3618; smtpd_forbidden_commands is
/// Postfix's answer.) A client that sends an article without waiting to hear
/// that it must not is cut off as well, before its text is taken for commands.
pub fn is_foreign(line: &[u8]) -> bool {
    let verb = verb(line);
    let is = |word: &&str| word.as_bytes().eq_ignore_ascii_case(verb);
    let target = line[verb.len()..].trim_ascii_start();
    let is_path = target.starts_with(b"/") || target.starts_with(b"http");
    verb.contains(&b':') || FOREIGN.iter().any(is) || (is_path && SHARED.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_a_line() {
        for line in [
            "GET / HTTP/1.1",
            "get /",
            "POST / HTTP/1.1",
            "post  http://news.example/ HTTP/1.1",
            "HEAD /",
            "CONNECT news.example:119 HTTP/1.1",
            "PRI * HTTP/2.0",
            "EHLO client.example",
            "Host: news.example",
            ":",
            "Content-Length:3",
        ] {
            assert!(is_foreign(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn commands_are_not_of_another_protocol() {
        for line in [
            "",
            " ",
            "POST",
            "POST x",
            "HEAD",
            "HEAD 1",
            "HEAD <a/b@http.example>",
            "HDR :bytes 1",
            "GETTING",
            "GROUP /",
            "AUTHINFO PASS /etc:HTTP/1.1",
        ] {
            assert!(!is_foreign(line.as_bytes()), "{line}");
        }
    }
}
