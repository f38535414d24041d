//! Text of a stranger, made fit for a terminal.

use std::fmt::{self, Display, Write};

/// Shows text with everything escaped that would drive a terminal or mislead its reader: control
/// characters (C0, DEL and C1, CVE-2009-4487), line ends, and what changes the direction of text
/// (CVE-2021-42574). A tab stays.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match is_harmful(c) {
                true => write!(self.0, "{}", c.escape_default())?,
                false => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn is_harmful(c: char) -> bool {
    let control = c.is_control() && c != '\t';
    // Line and paragraph separators are among the first range.
    let direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    control || direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drives_a_terminal_or_misleads_is_escaped() {
        let shown =
            Escaped("a\tb \u{1b}[2J\u{7f}\u{9b}2J\r\n\u{2028}\u{202e}\u{2066}\u{200f}\u{61c} é\\");
        assert_eq!(
            shown.to_string(),
            "a\tb \\u{1b}[2J\\u{7f}\\u{9b}2J\\r\\n\\u{2028}\\u{202e}\\u{2066}\\u{200f}\\u{61c} é\\"
        );
    }
}
