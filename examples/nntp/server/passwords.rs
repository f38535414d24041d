//! Who may come in: a file of `user:password` lines.

use std::collections::HashMap;

/// Users and their passwords.
///
/// The passwords are in clear, in the file and on the wire: RFC 4643, section
/// 2.3.2, wants AUTHINFO USER under TLS only. Keep this to a trusted network,
/// or put a TLS proxy before it.
pub struct Passwords(HashMap<String, String>);

impl Passwords {
    /// Reads the file's text. Empty lines and lines that begin with `#` are
    /// skipped; of another line without a colon the number is the error.
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
