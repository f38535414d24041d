//! Parses command lines: RFC 5321, section 4.1. The checks here concern a single
//! line. The session checks what depends on earlier commands.

use super::address::{self, Path};

/// The maximum length of a command line without its CRLF: section 4.5.3.1.4.
const MAX_LINE: usize = 510;

/// The maximum length of a MAIL line, which the parameters SIZE (RFC 1870,
/// section 3) and BODY (RFC 6152, section 2) extend.
pub const MAX_MAIL_LINE: u64 = MAX_LINE as u64 + 26 + 17;

/// The reply to a line that is too long: section 4.5.3.1.9.
pub const TOO_LONG: &str = "500 5.5.2 line too long";

#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    Helo(&'a str),
    Ehlo(&'a str),
    Mail {
        from: Path,
        /// The size that the client announces; 0 if it announces none.
        size: u64,
    },
    Rcpt(Path),
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    StartTls,
    Quit,
}

impl Command<'_> {
    /// Parses a line. The error is the reply to a malformed line.
    pub fn parse(line: &[u8]) -> Result<Command<'_>, &'static str> {
        // This also refuses a CR or an LF that is alone, which another server could
        // take for the end of the line.
        let printable = line.iter().all(|b| matches!(b, b' '..=b'~'));
        let Some(line) = std::str::from_utf8(line).ok().filter(|_| printable) else {
            return Err("500 5.5.2 a command is of printable ASCII");
        };
        // Section 4.1.1: servers should tolerate spaces before the CRLF.
        let line = line.trim_end_matches(' ');
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        let verb = verb.to_ascii_uppercase();
        if line.len() > MAX_LINE && verb != "MAIL" {
            return Err(TOO_LONG);
        }
        let alone = |command| match argument {
            "" => Ok(command),
            _ => Err("501 5.5.4 no argument is allowed"),
        };
        match &*verb {
            "HELO" => host(argument).map(Command::Helo),
            "EHLO" => host(argument).map(Command::Ehlo),
            "MAIL" => mail(argument),
            "RCPT" => rcpt(argument),
            "DATA" => alone(Command::Data),
            "RSET" => alone(Command::Rset),
            "QUIT" => alone(Command::Quit),
            "NOOP" => Ok(Command::Noop),
            "STARTTLS" => alone(Command::StartTls),
            "HELP" => Ok(Command::Help),
            "VRFY" if argument.is_empty() => Err("501 5.5.4 VRFY whom?"),
            "VRFY" => Ok(Command::Vrfy),
            "EXPN" | "ETRN" | "TURN" | "AUTH" | "BDAT" => Err("502 5.5.1 command not implemented"),
            _ => Err("500 5.5.1 command not recognized"),
        }
    }
}

fn host(name: &str) -> Result<&str, &'static str> {
    let name = name.trim_start_matches(' ');
    let reply = "501 5.5.4 a domain or an address literal is wanted";
    address::is_host(name).then_some(name).ok_or(reply)
}

fn mail(argument: &str) -> Result<Command<'_>, &'static str> {
    let path = after(argument, "FROM:").ok_or("501 5.5.4 MAIL FROM:<address> is wanted")?;
    let (from, parameters) = match Path::parse(path) {
        Some((Path::Postmaster, _)) | None => return Err("501 5.1.7 bad sender address"),
        Some(parsed) => parsed,
    };
    let (mut size, mut body) = (None, None);
    for parameter in words(parameters)? {
        let (keyword, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_repeated = if keyword.eq_ignore_ascii_case("SIZE") {
            size.replace(octets(value)?).is_some()
        } else if keyword.eq_ignore_ascii_case("BODY") {
            // The message is stored unchanged, so both values have the same effect.
            let known = ["7BIT", "8BITMIME"]
                .iter()
                .any(|known| value.eq_ignore_ascii_case(known));
            body.replace(
                known
                    .then_some(())
                    .ok_or("501 5.5.4 BODY is 7BIT or 8BITMIME")?,
            )
            .is_some()
        } else {
            return Err("555 5.5.4 parameter not recognized");
        };
        if is_repeated {
            return Err("501 5.5.4 a parameter is there twice");
        }
    }
    let size = size.unwrap_or(0);
    Ok(Command::Mail { from, size })
}

fn rcpt(argument: &str) -> Result<Command<'_>, &'static str> {
    let path = after(argument, "TO:").ok_or("501 5.5.4 RCPT TO:<address> is wanted")?;
    let (to, parameters) = match Path::parse(path) {
        Some((Path::Null, _)) | None => return Err("501 5.1.3 bad recipient address"),
        Some(parsed) => parsed,
    };
    match words(parameters)?.next() {
        Some(_) => Err("555 5.5.4 parameter not recognized"),
        None => Ok(Command::Rcpt(to)),
    }
}

/// The text after the keyword and after spaces. RFC 5321 does not allow these
/// spaces, but many clients send them.
fn after<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let argument = argument.trim_start_matches(' ');
    let (front, path) = argument.split_at_checked(keyword.len())?;
    let is = front.eq_ignore_ascii_case(keyword);
    is.then(|| path.trim_start_matches(' '))
}

/// The parameters after a path, from which a space separates them.
fn words(rest: &str) -> Result<impl Iterator<Item = &str>, &'static str> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err("501 5.5.4 a space is wanted after the address");
    }
    Ok(rest.split(' ').filter(|word| !word.is_empty()))
}

/// Parses the value of SIZE: up to 20 digits (RFC 1870, section 3). A number that
/// exceeds 64 bits becomes `u64::MAX`, which is above every limit.
fn octets(digits: &str) -> Result<u64, &'static str> {
    let valid = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if !valid {
        return Err("501 5.5.4 SIZE is a number");
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// Whether a line belongs to an HTTP request. An attacker can make a browser send a
/// request to this port, with a body that contains SMTP commands. So nothing after
/// such a line may be parsed (ALPACA, CVE-2021-3618; Postfix has
/// smtpd_forbidden_commands for this). No verb of SMTP ends with a colon.
pub fn is_http(line: &[u8]) -> bool {
    let verb = line.split(|b| *b == b' ').next().unwrap_or_default();
    let request = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT",
    ];
    verb.ends_with(b":") || request.iter().any(|word| word.as_bytes() == verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> &str {
        Command::parse(line.as_bytes()).map_or_else(|reply| &reply[..3], |_| "ok")
    }

    #[test]
    fn replies_to_command_lines() {
        for (line, expected) in [
            ("HELO x", "ok"),
            ("ehlo [127.0.0.1]  ", "ok"),
            ("EHLO", "501"),
            ("EHLO a b", "501"),
            ("HELO x(y)", "501"),
            ("MAIL FROM:<a@x>", "ok"),
            ("mail from:<> body=8bitmime size=0", "ok"),
            ("MAIL FROM: <a@x>", "ok"),
            ("MAIL FROM:<a@x>SIZE=1", "501"),
            ("MAIL FROM:<a@x> SIZE=1 SIZE=1", "501"),
            ("MAIL FROM:<a@x> SIZE=", "501"),
            ("MAIL FROM:<a@x> SIZE=-1", "501"),
            ("MAIL FROM:<a@x> SIZE=123456789012345678901", "501"),
            ("MAIL FROM:<a@x> BODY=BINARYMIME", "501"),
            ("MAIL FROM:<a@x> AUTH=<>", "555"),
            ("MAIL FROM:a@x", "501"),
            ("MAIL FROM:<Postmaster>", "501"),
            ("MAIL <a@x>", "501"),
            ("MAIL", "501"),
            ("RCPT TO:<a@x>", "ok"),
            ("RCPT TO:<postmaster>", "ok"),
            ("RCPT TO:<>", "501"),
            ("RCPT TO:<a@x> NOTIFY=NEVER", "555"),
            ("RCPT FROM:<a@x>", "501"),
            ("DATA", "ok"),
            ("DATA x", "501"),
            ("RSET x", "501"),
            ("NOOP x", "ok"),
            ("HELP MAIL", "ok"),
            ("VRFY ann", "ok"),
            ("VRFY", "501"),
            ("QUIT", "ok"),
            ("QUIT now", "501"),
            ("STARTTLS", "ok"),
            ("STARTTLS now", "501"),
            ("AUTH PLAIN", "502"),
            ("", "500"),
            (" QUIT", "500"),
            ("QUIT\n", "500"),
            ("NOOP \u{e4}", "500"),
            ("NOOP\0", "500"),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn a_size_above_64_bits_is_valid_and_becomes_the_maximum() {
        let line = b"MAIL FROM:<a@x> SIZE=99999999999999999999";
        let size = u64::MAX;
        let from = Path::parse("<a@x>").unwrap().0;
        assert_eq!(Command::parse(line), Ok(Command::Mail { from, size }));
    }

    #[test]
    fn only_mail_lines_may_be_longer() {
        let padded = |verb: &str| format!("{verb:510}x");
        assert_eq!(Command::parse(padded("NOOP ").as_bytes()), Err(TOO_LONG));
        assert_eq!(code(&padded("NOOP ")[..510]), "ok");
        assert_eq!(code(&padded("MAIL FROM:<a@x>")), "555");
    }

    #[test]
    fn http_requests_are_recognized() {
        for line in [
            "GET / HTTP/1.1",
            "POST /",
            "Host: x",
            "content-length: 3",
            ":",
        ] {
            assert!(is_http(line.as_bytes()), "{line}");
        }
        for line in ["", "HELP", "MAIL FROM:<a@x>", "GETTING", "RCPT TO: <a@x>"] {
            assert!(!is_http(line.as_bytes()), "{line}");
        }
    }
}
