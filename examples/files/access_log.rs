//! The access log, in the combined format of Apache, which goaccess and other programs read:
//!
//! ```text
//! 127.0.0.1 - ann [06/Nov/1994:08:49:37 +0000] "GET /a HTTP/1.1" 200 5 "http://x/" "curl/8"
//! 127.0.0.1 - ann [06/Nov/1994:08:49:38 +0000] "RETR /a FTP" 226 5 "-" "-"
//! 127.0.0.1 - - [06/Nov/1994:08:49:39 +0000] "-" 400 40 "-" "-"
//! ```
//!
//! The second line is a transfer of FTP, and the third one is input that is no request. goaccess accepts all three, and
//! shows "RETR /a FTP" as a path without a method.

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use asynchat::Addr;

/// So many bytes of lines are written at once.
const FULL: usize = 32 << 10;

/// How long a line waits for others.
const PERIOD: Duration = Duration::from_secs(1);

/// The longest value of a request in a line.
const LONGEST: usize = 2048;

/// A file to which lines are appended.
#[derive(Clone)]
pub struct AccessLog(Rc<Shared>);

struct Shared {
    path: PathBuf,
    file: RefCell<File>,
    lines: RefCell<String>,
}

/// What a line says of a request.
pub struct Request<'a> {
    pub user: Option<&'a str>,
    pub method: &'a str,
    pub target: &'a str,
    /// `HTTP/1.1`
    pub protocol: &'a str,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
}

/// A line without the outcome.
pub struct Line {
    log: AccessLog,
    text: String,
    /// Where the outcome goes.
    outcome: usize,
}

impl AccessLog {
    pub fn open(path: &Path) -> io::Result<AccessLog> {
        Ok(AccessLog(Rc::new(Shared {
            path: path.to_owned(),
            file: RefCell::new(open(path)?),
            lines: RefCell::default(),
        })))
    }

    /// Opens the file by its name once more, because it may have been renamed (logrotate). If that fails, the lines go to
    /// the file that is open.
    #[cfg_attr(windows, expect(dead_code))] // Windows has no SIGHUP.
    pub fn reopen(&self) {
        self.0.write();
        match open(&self.0.path) {
            Ok(file) => drop(self.0.file.replace(file)),
            Err(error) => {
                let path = self.0.path.display();
                tracing::error!(%path, %error, "the access log cannot be opened: lines go on to the file that was open");
            }
        }
    }

    pub fn request(&self, peer: Option<&Addr>, date: &str, request: &Request<'_>) -> Line {
        let mut text = start(peer, request.user, date);
        escape(&mut text, request.method.as_bytes());
        text.push(' ');
        escape(&mut text, request.target.as_bytes());
        text.extend([" ", request.protocol, "\" "]);
        let outcome = text.len();
        for value in [request.referer, request.user_agent] {
            text.push_str(" \"");
            escape(&mut text, value.unwrap_or(b"-"));
            text.push('"');
        }
        let log = self.clone();
        Line { log, text, outcome }
    }

    /// For what is no request.
    pub fn refused(&self, peer: Option<&Addr>, date: &str) -> Line {
        let mut text = start(peer, None, date);
        text.push_str("-\" ");
        let outcome = text.len();
        text.push_str(" \"-\" \"-\"");
        let log = self.clone();
        Line { log, text, outcome }
    }

    /// The lines are written when there are many, and after a second.
    fn add(&self, line: &Line, outcome: fmt::Arguments<'_>) {
        let mut lines = self.0.lines.borrow_mut();
        if lines.is_empty() {
            let shared = Rc::downgrade(&self.0);
            asynchat::call_later(PERIOD, move || {
                if let Some(shared) = shared.upgrade() {
                    shared.write();
                }
            });
        }
        let (start, end) = line.text.split_at(line.outcome);
        lines.push_str(start);
        // Writing to memory does not fail.
        let _ = lines.write_fmt(outcome);
        lines.extend([end, "\n"]);
        let is_full = lines.len() >= FULL;
        drop(lines);
        if is_full {
            self.0.write();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

impl Shared {
    fn write(&self) {
        let mut lines = self.lines.borrow_mut();
        if let Err(error) = self.file.borrow_mut().write_all(lines.as_bytes()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
        lines.clear();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.write();
    }
}

impl Line {
    /// Logs the request, with the bytes of the body that were sent.
    pub fn finish(self, status: u16, bytes: u64) {
        match bytes {
            0 => self.log.add(&self, format_args!("{status} -")),
            bytes => self.log.add(&self, format_args!("{status} {bytes}")),
        }
    }
}

/// A line up to the request.
fn start(peer: Option<&Addr>, user: Option<&str>, date: &str) -> String {
    // Enough for most lines.
    let mut text = String::with_capacity(256);
    let _ = match peer.and_then(Addr::ip) {
        Some(ip) => write!(text, "{ip} - "),
        None => text.write_str("- - "),
    };
    match user {
        Some(user) => escape(&mut text, user.replace(' ', "+").as_bytes()),
        None => text.push('-'),
    }
    text.extend([" [", date, "] \""]);
    text
}

/// As Apache does: a client must not forge lines, nor control the terminal of somebody who reads them.
fn escape(line: &mut String, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST)];
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(byte);
    if let (true, Ok(text)) = (value.iter().all(is_plain), std::str::from_utf8(value)) {
        return line.push_str(text);
    }
    for &byte in value {
        match byte {
            b'"' | b'\\' => line.extend(['\\', byte as char]),
            b' '..=b'~' => line.push(byte as char),
            _ => drop(write!(line, "\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::fs;

    #[cfg(unix)]
    use super::*;

    /// Windows does not rename a file that is open.
    #[cfg(unix)]
    #[test]
    fn a_log_that_was_renamed_is_opened_by_its_name_once_more() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("access-log-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (path, renamed) = (folder.join("log"), folder.join("log.1"));
        let log = AccessLog::open(&path)?;
        log.refused(None, "before").finish(400, 0);
        fs::rename(&path, &renamed)?;
        log.reopen();
        log.refused(None, "after").finish(400, 0);
        // Where it cannot be opened, the lines go to the file that is open.
        fs::remove_file(&path)?;
        fs::create_dir(&path)?;
        log.reopen();
        fs::remove_dir(&path)?;
        log.reopen();
        log.refused(None, "last").finish(400, 0);
        drop(log);
        assert_eq!(
            fs::read_to_string(&renamed)?,
            "- - - [before] \"-\" 400 - \"-\" \"-\"\n"
        );
        assert_eq!(
            fs::read_to_string(&path)?,
            "- - - [last] \"-\" 400 - \"-\" \"-\"\n"
        );
        fs::remove_dir_all(&folder)
    }

    #[test]
    fn a_value_stays_in_its_quotes() {
        let mut line = String::new();
        super::escape(&mut line, b"a\" b\\\n\x1b\xc3\xa9");
        assert_eq!(line, "a\\\" b\\\\\\x0a\\x1b\\xc3\\xa9");
    }
}
