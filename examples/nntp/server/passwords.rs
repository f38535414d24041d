//! The password file, with `user:password` lines.

use std::collections::HashMap;

/// Users and their passwords.
///
/// The passwords are in clear text in the file, so only the user of the server should be able to read it.
pub struct Passwords(HashMap<String, String>);

impl Passwords {
    /// Parses the file. Empty lines and lines that begin with `#` are skipped. The
    /// error is the number of the first other line that has no colon.
    pub fn parse(text: &str) -> Result<Passwords, usize> {
        let lines = text.lines().enumerate();
        lines
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(i, line)| {
                let (user, password) = line.split_once(':').ok_or(i + 1)?;
                Ok((user.to_owned(), password.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Passwords)
    }

    /// Whether the password is that of the user.
    pub fn admit(&self, user: &str, password: &str) -> bool {
        self.0
            .get(user)
            .is_some_and(|expected| expected == password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_file() {
        let passwords = Passwords::parse("# who\n\nann:a:b\nbob:\n").ok().unwrap();
        assert!(passwords.admit("ann", "a:b"));
        assert!(passwords.admit("bob", ""));
        assert!(!passwords.admit("ann", "a"));
        assert!(!passwords.admit("eve", ""));
        assert_eq!(Passwords::parse("a:b\nc\n").err(), Some(2));
    }
}
