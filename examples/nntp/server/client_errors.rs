//! When the server closes a connection because of the client's errors: it speaks
//! another protocol, sends only bad commands, or guesses passwords. The client
//! gets a 400 first, which any command may get before the server closes the
//! connection (RFC 3977, section 3.2.1).

use tracing::debug;

use super::session::Session;

/// Counts the errors of one client.
#[derive(Default)]
pub struct ClientErrors {
    /// Bad commands since the last good one. Only errors in a row count: a
    /// well-meaning client sends good commands between its bad ones. Postfix's
    /// smtpd_hard_error_limit is similar.
    bad_commands: usize,
    failed_logins: usize,
}

impl Session {
    /// Sends the reply to a bad command line. Closes the connection instead when
    /// there were too many in a row.
    pub(super) fn bad_command(&mut self, reply: &str, line: &[u8]) {
        self.errors.bad_commands += 1;
        if self.errors.bad_commands < self.service.options.max_bad_commands {
            self.reply(reply);
        } else {
            self.hang_up("too many bad commands", line);
        }
    }

    /// Resets the count of bad commands. A command is good if it is well-formed,
    /// even if it was refused.
    pub(super) fn good_command(&mut self) {
        self.errors.bad_commands = 0;
    }

    /// Sends the reply to a failed log-in. Closes the connection instead when there were too many.
    pub(super) fn failed_login(&mut self, reply: &str) {
        self.errors.failed_logins += 1;
        if self.errors.failed_logins < self.service.options.max_failed_logins {
            self.reply(reply);
        } else {
            self.hang_up("too many failed log-ins", b"AUTHINFO");
        }
    }

    /// Ends the session with a last reply. Later input is ignored. The reply
    /// still reaches a client that continues to send, because the loop lingers.
    pub(super) fn hang_up(&self, why: &str, line: &[u8]) {
        let verb = verb(line);
        let verb = verb.get(..32).unwrap_or(verb).escape_ascii();
        debug!(%verb, "closing the connection: {why}");
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

/// Verbs of HTTP and SMTP that are not NNTP commands.
const OTHER_VERBS: &[&str] = &[
    "CONNECT", "DELETE", "EHLO", "GET", "HELO", "LHLO", "OPTIONS", "PATCH", "PRI", "PUT", "TRACE",
];

/// Verbs that HTTP and NNTP share. A path as argument distinguishes them, because
/// neither a message-id nor an article number is a path.
const SHARED_VERBS: &[&str] = &["HEAD", "POST"];

/// Whether a line belongs to another protocol: an HTTP request, an SMTP greeting,
/// or a header field, such as the Host of a request whose first line was too long
/// to be parsed.
///
/// An attacker can make a browser or a proxy send a request to this port, with a
/// body that contains NNTP commands. So nothing after such a line may be parsed
/// (ALPACA, CVE-2021-3618; Postfix has smtpd_forbidden_commands for this). The
/// same check stops a client that sends an article although its POST was refused:
/// otherwise the lines of the article would run as commands.
pub fn is_other_protocol(line: &[u8]) -> bool {
    let verb = verb(line);
    let is = |word: &&str| word.as_bytes().eq_ignore_ascii_case(verb);
    let target = line[verb.len()..].trim_ascii_start();
    let is_path = target.starts_with(b"/") || target.starts_with(b"http");
    verb.contains(&b':') || OTHER_VERBS.iter().any(is) || (is_path && SHARED_VERBS.iter().any(is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_protocols_are_recognized() {
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
            assert!(is_other_protocol(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn commands_are_not_taken_for_another_protocol() {
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
            assert!(!is_other_protocol(line.as_bytes()), "{line}");
        }
    }
}
