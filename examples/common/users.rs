//! Users and their passwords, and the options of the command line that name them. Several examples include this file by
//! its path.

#![allow(dead_code, reason = "the tests of a program have no command line")]

use std::collections::HashMap;
use std::hint::black_box;
use std::path::PathBuf;

use clap::Args;

/// The passwords are in clear text where they come from: the command line or a file.
#[derive(Clone, Default)]
pub struct Users(HashMap<Vec<u8>, Vec<u8>>);

impl Users {
    /// Adds `NAME:PASSWORD`. The name has no colon (RFC 7617 section 2), the password may.
    pub fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, password) = line.split_once(':').ok_or("expected NAME:PASSWORD")?;
        // RFC 1929 section 2.
        if !(1..=255).contains(&name.len()) || !(1..=255).contains(&password.len()) {
            return Err("the name and the password have 1 to 255 bytes each");
        }
        self.0.insert(name.into(), password.into());
        Ok(())
    }

    /// Adds the lines of a file. Empty lines and lines that begin with `#` are skipped.
    fn add_lines(&mut self, text: &str) -> Result<(), String> {
        for (n, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                let added = self.add(line);
                added.map_err(|why| format!("line {}: {why}", n + 1))?;
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is that of the user. The time does not tell how much of it is right.
    pub fn admit(&self, name: &[u8], password: &[u8]) -> bool {
        let expected = self.0.get(name).map_or(&b""[..], Vec::as_slice);
        let differences = expected
            .iter()
            .zip(password)
            .fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        !expected.is_empty() && expected.len() == password.len() && differences == 0
    }
}

#[derive(Args)]
#[command(next_help_heading = "Users")]
pub struct UserOptions {
    /// A user (repeatable). Other users of this system can see the arguments of a program:
    /// --passwords is safer.
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<String>,

    /// A file of users. Each line is NAME:PASSWORD.
    #[arg(long, value_name = "FILE")]
    passwords: Option<PathBuf>,
}

impl UserOptions {
    pub fn read(&self) -> asynchat::Result<Users> {
        let mut users = Users::default();
        for user in &self.user {
            users.add(user).map_err(|why| format!("--user: {why}"))?;
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

#[cfg(unix)]
fn warn_if_public(path: &std::path::Path) {
    if is_public(path) {
        tracing::warn!(file = %path.display(), "every user of this system can read or replace the passwords");
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
        users.add_lines("# users\n\nann:se:cret\nbob:x\n").unwrap();
        assert!(users.admit(b"ann", b"se:cret") && users.admit(b"bob", b"x"));
        for (name, password) in [
            ("ann", "secret"),
            ("ann", "se:cre"),
            ("ann", "se:cret "),
            ("ann", ""),
            ("bob", "se:cret"),
            ("carl", "x"),
            ("carl", ""),
            ("", ""),
        ] {
            assert!(!users.admit(name.as_bytes(), password.as_bytes()), "{name}");
        }
        for line in ["ann", ":x", "x:", ""] {
            assert!(users.add(line).is_err(), "{line}");
        }
        assert!(
            users
                .add_lines("ann:x\nbob")
                .unwrap_err()
                .starts_with("line 2")
        );
    }
}
