//! Users and their passwords, and the options of the command line that name them. Several examples include this folder by
//! its path.
//!
//! Reading order: this file, `hash.rs` (what is stored), `logins.rs` (who is checked when), `check_thread.rs` (a check on a
//! thread), `accepted.rs` (passwords that were checked a short while ago), `../shares.rs` (what clients share).

#![allow(
    dead_code,
    unused_imports,
    reason = "the tests of a program have no command line"
)]

mod accepted;
mod check_thread;
mod hash;
#[path = "../login_limit.rs"]
mod login_limit;
mod logins;
#[allow(
    clippy::duplicate_mod,
    reason = "a program may have `certificate.rs`, too"
)]
#[path = "../public.rs"]
mod public;
#[path = "../shares.rs"]
mod shares;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use asynchat::Addr;
use clap::Args;
use hash::PasswordHash;
use public::warn_if_public;

pub use login_limit::Client;
pub use logins::{LONGEST, Login, Logins, too_many};
pub use shares::{Share, Shares, most};

/// Programs such as fail2ban read this line. It is the same in each program, because it belongs to no span. The log has at
/// most ten a second.
pub fn log_wrong_password(name: &[u8], peer: Option<&Addr>) {
    let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST)]);
    let peer = peer.and_then(Addr::ip).map(|ip| ip.to_canonical());
    let peer = peer.map_or("-".to_owned(), |ip| ip.to_string());
    // The name comes last: a client can write anything in it.
    tracing::warn!(parent: None, %peer, user = ?name, "wrong password");
}

/// Names, and the hashes of passwords.
#[derive(Clone, Default)]
pub struct Users(HashMap<Vec<u8>, PasswordHash>);

impl Users {
    /// Adds `NAME:HASH`.
    pub fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, hash) = split(line, "expected NAME:HASH, there is no colon")?;
        self.insert(name, PasswordHash::parse(hash)?)
    }

    /// Adds `NAME:PASSWORD`.
    fn add_in_clear(&mut self, text: &str) -> Result<(), String> {
        let (name, password) = split(text, "expected NAME:PASSWORD, there is no colon")?;
        Ok(self.insert(name, PasswordHash::of(password)?)?)
    }

    /// A second entry of a user is an error, because one of the two passwords would be ignored.
    fn insert(&mut self, name: &str, hash: PasswordHash) -> Result<(), &'static str> {
        match self.0.insert(name.into(), hash) {
            None => Ok(()),
            Some(_) => Err("there are two entries of this user"),
        }
    }

    /// Adds the lines of a file. Empty lines and lines that begin with `#` are skipped. None may have one of the users of
    /// `--user`.
    fn add_lines(&mut self, text: &str, given: &Users) -> Result<(), String> {
        for (n, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.starts_with('#') {
                let added = self.add_line(line.trim_end(), given);
                added.map_err(|why| format!("line {}: {why}", n + 1))?;
            }
        }
        Ok(())
    }

    fn add_line(&mut self, line: &str, given: &Users) -> Result<(), String> {
        self.add(line)?;
        match line.split_once(':') {
            Some((name, _)) if given.0.contains_key(name.as_bytes()) => {
                Err(format!("--user has the user {name}, too"))
            }
            _ => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the password is that of the user. This takes long, also for a name that is not known.
    fn admit(&self, name: &[u8], password: &[u8]) -> bool {
        let is_right = self.hash_for(name).is_some_and(|hash| hash.is_of(password));
        black_box(is_right) && self.0.contains_key(name)
    }

    /// The hash that the password of a client is checked against. A name that is not known gets the hash of some user,
    /// because the time of a reply would show which names are known. It gets the same hash each time, because the costs
    /// of hashes differ. `None` if there are no users.
    fn hash_for(&self, name: &[u8]) -> Option<&PasswordHash> {
        let of_another = || {
            let number = self.0.hasher().hash_one(name) as usize;
            self.0.values().nth(number.checked_rem(self.0.len())?)
        };
        self.0.get(name).or_else(of_another)
    }
}

/// The name has no colon (RFC 7617 section 2), the rest may. `missing` is the error without a colon.
fn split<'a>(line: &'a str, missing: &'static str) -> Result<(&'a str, &'a str), &'static str> {
    let (name, rest) = line.split_once(':').ok_or(missing)?;
    // RFC 1929 section 2.
    if !(1..=255).contains(&name.len()) || rest.is_empty() {
        return Err("a name has 1 to 255 bytes, and something follows the colon");
    }
    // In a file such a line is a comment.
    if name.starts_with('#') || name.chars().any(char::is_control) {
        return Err("a name does not begin with #, and has no control characters");
    }
    Ok((name, rest))
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Users")]
pub struct UserOptions {
    /// A user (repeatable). Other users of this system can see the arguments of a program:
    /// --passwords is safer.
    #[arg(long, value_name = "NAME:PASSWORD")]
    user: Vec<String>,

    /// A file of users, as `htpasswd -B` makes it. Each line is NAME:HASH, with bcrypt ($2y$, $2b$) or
    /// SHA-crypt ($5$, $6$). bcrypt uses the first 72 bytes of a password only. On Unix, SIGHUP reads
    /// the file again for log-ins that follow; elsewhere a change needs a restart.
    #[arg(long, value_name = "FILE")]
    pub passwords: Option<PathBuf>,

    /// Reads a password of at most 71 bytes from the standard input, which is a file or a pipe, prints a line
    /// for the file of --passwords, and ends. For a longer one use `openssl passwd -6`.
    #[arg(long, value_name = "NAME", exclusive = true)]
    pub hash_password: Option<String>,
}

impl UserOptions {
    pub fn read(&self) -> asynchat::Result<Users> {
        let users = self.read_arguments()?;
        match &self.passwords {
            Some(path) => with_file(users, path),
            None => Ok(users),
        }
    }

    fn read_arguments(&self) -> asynchat::Result<Users> {
        let mut users = Users::default();
        for user in &self.user {
            let added = users.add_in_clear(user);
            added.map_err(|why| format!("--user: {why}"))?;
        }
        Ok(users)
    }

    /// Reads the file again when the process receives SIGHUP. If it cannot be read, the old users stay: a mistake in it must
    /// not lock everybody out.
    #[cfg(unix)]
    pub fn reload_on_sighup(&self, logins: &Logins) -> asynchat::Result {
        use asynchat::signal::{self, SIGHUP};

        let Some(path) = self.passwords.clone() else {
            return Ok(());
        };
        let (arguments, logins) = (self.read_arguments()?, logins.clone());
        signal::on(SIGHUP, move || match with_file(arguments.clone(), &path) {
            Ok(users) => {
                logins.replace(users);
                tracing::info!(file = %path.display(), "the passwords were read again");
            }
            Err(error) => tracing::error!(%error, "the old passwords stay"),
        })?;
        Ok(())
    }
}

/// Adds the users of a file.
fn with_file(mut users: Users, path: &Path) -> asynchat::Result<Users> {
    let failed = |why| format!("--passwords {}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let mut of_file = Users::default();
    of_file.add_lines(&text, &users).map_err(failed)?;
    // For the caller, no users means that everybody may use the service.
    if of_file.is_empty() {
        return Err(failed("the file has no users".to_owned()).into());
    }
    users.0.extend(of_file.0);
    warn_if_public(path, "the hashes of passwords");
    Ok(users)
}

/// The line of a user, with the password that is read.
pub fn read_entry(name: &str) -> asynchat::Result<String> {
    // A terminal would show the password.
    if io::stdin().is_terminal() {
        return Err(format!("--hash-password {name} <FILE reads the password from a file").into());
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    match line.trim_end_matches(['\r', '\n']) {
        "" => Err("the standard input has no password".into()),
        password => entry(name, password),
    }
}

fn entry(name: &str, password: &str) -> asynchat::Result<String> {
    let entry = format!("{name}:{password}");
    match split(&entry, "the name is missing")? {
        (found, _) if found == name => Ok(format!("{name}:{}", PasswordHash::of(password)?)),
        _ => Err("the name has a colon".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_one_password() {
        let mut users = Users::default();
        users.add_in_clear("ann:se:cret").unwrap();
        let hash = PasswordHash::of("x").unwrap();
        let text = format!("# users\n\nbob:{hash}\r\n");
        users.add_lines(&text, &Users::default()).unwrap();
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

    /// A reply to a name that is not known takes as long as one to a user.
    #[test]
    fn an_unknown_name_is_checked_against_the_hash_of_a_user() {
        let mut users = Users::default();
        assert!(users.hash_for(b"carl").is_none());
        users.add_in_clear("ann:secret").unwrap();
        let hash = PasswordHash::of("x").unwrap();
        let of = |users: &Users, name: &str| users.hash_for(name.as_bytes()).unwrap().to_string();
        let of_ann = of(&users, "ann");
        assert_eq!(of(&users, "carl"), of_ann);
        assert!(users.admit(b"ann", b"secret") && !users.admit(b"carl", b"secret"));
        for n in 0..20 {
            users.0.insert(format!("bob{n}").into(), hash.clone());
        }
        for n in 0..100 {
            let name = format!("carl{n}");
            let first = of(&users, &name);
            assert!(first == of_ann || first == hash.to_string());
            assert!((0..10).all(|_| of(&users, &name) == first));
        }
        assert_eq!(of(&users, "ann"), of_ann);
    }

    /// Without users, `proxy` serves everybody.
    #[test]
    fn a_file_without_users_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let options = |user: &[&str]| UserOptions {
            user: user.iter().map(ToString::to_string).collect(),
            passwords: Some(path.clone()),
            hash_password: None,
        };
        for text in ["", "\n", "# ann\n\n  \n"] {
            std::fs::write(&path, text).unwrap();
            for user in [&[][..], &["ann:x"]] {
                let why = options(user).read().err().unwrap().to_string();
                assert!(why.ends_with("the file has no users"), "{why}");
            }
        }
        let hash = PasswordHash::of("x").unwrap();
        std::fs::write(&path, format!("bob:{hash}\n")).unwrap();
        assert_eq!(options(&["ann:x"]).read().unwrap().0.len(), 2);
        let why = options(&["bob:x"]).read().err().unwrap().to_string();
        assert!(why.starts_with("--passwords "), "{why}");
        assert!(
            why.ends_with("line 1: --user has the user bob, too"),
            "{why}"
        );
        let why = options(&["ann"]).read().err().unwrap().to_string();
        assert_eq!(why, "--user: expected NAME:PASSWORD, there is no colon");
    }

    #[test]
    fn a_name_occurs_once_and_is_no_comment() {
        let hash = PasswordHash::of("x").unwrap();
        for name in ["#ann", "a\tnn", "\u{1b}[1m", "ann\u{85}"] {
            let added = Users::default().add(&format!("{name}:{hash}"));
            assert!(added.is_err(), "{name:?}");
            assert!(entry(name, "x").is_err(), "{name:?}");
        }
        assert!(entry("a#ü", "x").unwrap().starts_with("a#ü:$2"));
        assert!(entry("a:b", "x").is_err());
        let text = format!("ann:{hash}\nbob:{hash}\nann:{hash}\n");
        let why = Users::default().add_lines(&text, &Users::default());
        assert_eq!(
            why,
            Err("line 3: there are two entries of this user".to_owned())
        );
        let why = Users::default().add_lines("ann\n", &Users::default());
        assert_eq!(
            why,
            Err("line 1: expected NAME:HASH, there is no colon".to_owned())
        );
    }

    #[test]
    fn a_password_in_clear_is_refused_in_a_file() {
        let mut users = Users::default();
        for line in ["ann", ":x", "x:", "ann:secret"] {
            assert!(users.add(line).is_err(), "{line}");
        }
        let hash = PasswordHash::of("x").unwrap();
        let why = users.add_lines(&format!("ann:{hash}\nbob:secret"), &Users::default());
        let why = why.unwrap_err();
        assert!(
            why.starts_with("line 2: ") && why.contains("htpasswd"),
            "{why}"
        );
        assert!(!why.contains("secret"), "{why}");
    }
}
