//! Escaping of untrusted text that is shown in a terminal.

use std::fmt::{self, Display, Write};

/// Displays text with these characters escaped, because they would control the terminal or mislead the
/// reader: control characters (C0, DEL and C1, CVE-2009-4487), line ends, and characters that change the
/// direction of text (CVE-2021-42574). Tabs are not escaped.
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Printable ASCII needs no escape. `fmt` writes an address in a dozen pieces, so one check for each piece is faster
        // than one for each character.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        for c in text.chars() {
            if is_harmful(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn is_harmful(c: char) -> bool {
    let control = c.is_control() && c != '\t';
    // U+2028..=U+202E begins with the line and paragraph separators.
    let direction = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    control || direction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let shown =
            Escaped("a\tb \u{1b}[2J\u{7f}\u{9b}2J\r\n\u{2028}\u{202e}\u{2066}\u{200f}\u{61c} é\\");
        assert_eq!(
            shown.to_string(),
            "a\tb \\u{1b}[2J\\u{7f}\\u{9b}2J\\r\\n\\u{2028}\\u{202e}\\u{2066}\\u{200f}\\u{61c} é\\"
        );
    }
}
