//! Users and their passwords, and the options of the command line that name them. Several examples include this folder by
//! its path.
//!
//! Reading order: this file, `hash.rs` (what is stored), `logins.rs` (checks off the loop), `accepted.rs` (what need not be
//! checked again).

#![allow(
    dead_code,
    unused_imports,
    reason = "the tests of a program have no command line"
)]

mod accepted;
mod hash;
#[path = "../login_limit.rs"]
mod login_limit;
mod logins;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;

use clap::Args;
use hash::PasswordHash;

pub use login_limit::Client;
pub use logins::{Login, Logins};

/// Names, and the hashes of passwords.
#[derive(Clone, Default)]
pub struct Users(HashMap<Vec<u8>, PasswordHash>);

impl Users {
    /// Adds `NAME:HASH`.
    pub fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, hash) = split(line)?;
        self.0.insert(name.into(), PasswordHash::parse(hash)?);
        Ok(())
    }

    /// Adds `NAME:PASSWORD`.
    fn add_in_clear(&mut self, text: &str) -> Result<(), String> {
        let (name, password) = split(text)?;
        self.0.insert(name.into(), PasswordHash::of(password)?);
        Ok(())
    }

    /// Adds the lines of a file. Empty lines and lines that begin with `#` are skipped.
    fn add_lines(&mut self, text: &str) -> Result<(), String> {
        for (n, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                let added = self.add(line.trim_end());
                added.map_err(|why| format!("line {}: {why}", n + 1))?;
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is that of the user. This takes long, also for a name that is not known: the time would tell
    /// which names are. Such a name stands for the same user each time, because hashes differ in their cost.
    fn admit(&self, name: &[u8], password: &[u8]) -> bool {
        if let Some(hash) = self.0.get(name) {
            return hash.is_of(password);
        }
        let number = self.0.hasher().hash_one(name) as usize;
        let instead = number.checked_rem(self.0.len());
        if let Some(hash) = instead.and_then(|n| self.0.values().nth(n)) {
            black_box(hash.is_of(password));
        }
        false
    }
}

/// The name has no colon (RFC 7617 section 2), the rest may.
fn split(line: &str) -> Result<(&str, &str), &'static str> {
    let (name, rest) = line.split_once(':').ok_or("a colon follows the name")?;
    // RFC 1929 section 2.
    match (1..=255).contains(&name.len()) && !rest.is_empty() {
        true => Ok((name, rest)),
        false => Err("a name has 1 to 255 bytes, and something follows the colon"),
    }
}

#[derive(Args)]
#[command(next_help_heading = "Users")]
pub struct UserOptions {
    /// A user (repeatable). Other users of this system can see the arguments of a program:
    /// --passwords is safer.
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<String>,

    /// A file of users, as `htpasswd -B` makes it. Each line is NAME:HASH, with bcrypt ($2y$) or
    /// SHA-crypt ($5$, $6$).
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,

    /// Reads a password from the standard input, prints a line for the file of --passwords, and ends.
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub hash_password: Option<String>,
}

impl UserOptions {
    pub fn read(&self) -> asynchat::Result<Users> {
        let mut users = Users::default();
        for user in &self.user {
            let added = users.add_in_clear(user);
            added.map_err(|why| format!("--user: {why}"))?;
        }
        if let Some(path) = &self.passwords {
            let failed = |why| format!("--passwords {}: {why}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
            users.add_lines(&text).map_err(failed)?;
            #[cfg(unix)]
            warn_if_public(path);
        }
        Ok(users)
    }
}

/// The line of a user, with the password that is read.
pub fn read_entry(name: &str) -> asynchat::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    let entry = format!("{name}:{password}");
    match split(&entry)? {
        (found, _) if found == name => Ok(format!("{name}:{}", PasswordHash::of(password)?)),
        _ => Err("the name has a colon".into()),
    }
}

#[cfg(unix)]
fn warn_if_public(path: &std::path::Path) {
    if is_public(path) {
        tracing::warn!(file = %path.display(), "every user of this system can read or replace the hashes of passwords");
    }
}

#[cfg(unix)]
fn is_public(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;

    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_is_public_if_others_can_use_it() {
        use std::fs::{File, Permissions};
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let file = File::create(&path).unwrap();
        for (mode, expected) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_public(&path), expected, "{mode:o}");
        }
        assert!(!is_public(&folder.path().join("none")));
    }

    #[test]
    fn a_user_has_one_password() {
        let mut users = Users::default();
        users.add_in_clear("ann:se:cret").unwrap();
        let hash = PasswordHash::of("x").unwrap();
        let text = format!("# users\n\nbob:{hash}\r\n");
        users.add_lines(&text).unwrap();
        assert!(users.admit(b"ann", b"se:cret") && users.admit(b"bob", b"x"));
        for (name, password) in [
            ("ann", "secret"),
            ("ann", "se:cret "),
            ("ann", ""),
            ("bob", "se:cret"),
            ("carl", "x"),
            ("carl", "se:cret"),
            ("carl", ""),
            ("", ""),
        ] {
            assert!(!users.admit(name.as_bytes(), password.as_bytes()), "{name}");
        }
        assert!(!Users::default().admit(b"ann", b""));
    }

    #[test]
    fn a_password_in_clear_is_refused_in_a_file() {
        let mut users = Users::default();
        for line in ["ann", ":x", "x:", "ann:secret"] {
            assert!(users.add(line).is_err(), "{line}");
        }
        let hash = PasswordHash::of("x").unwrap();
        let why = users.add_lines(&format!("ann:{hash}\nbob:secret"));
        let why = why.unwrap_err();
        assert!(
            why.starts_with("line 2: ") && why.contains("htpasswd"),
            "{why}"
        );
        assert!(!why.contains("secret"), "{why}");
    }
}
