//! Who may write.

use std::collections::HashMap;

/// Users and their passwords, which are in clear text where they come from: the command line or a file.
#[derive(Clone, Default)]
pub struct Users(HashMap<String, String>);

impl Users {
    /// Adds `NAME:PASSWORD`. The name has no colon (RFC 7617 section 2), the password may.
    pub fn add(&mut self, line: &str) -> Result<(), &'static str> {
        match line.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => {
                self.0.insert(name.to_owned(), password.to_owned());
                Ok(())
            }
            _ => Err("expected NAME:PASSWORD"),
        }
    }

    /// Adds the lines of a file. Empty lines and lines that begin with `#` are skipped.
    pub fn add_lines(&mut self, text: &str) -> Result<(), String> {
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
    pub fn admit(&self, name: &str, password: &[u8]) -> bool {
        let expected = self.0.get(name).map_or(&b""[..], |text| text.as_bytes());
        let pairs = expected.iter().zip(password);
        let differences = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
        !expected.is_empty() && expected.len() == password.len() && differences == 0
    }
}
