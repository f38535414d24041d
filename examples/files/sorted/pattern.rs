//! Patterns for names in a folder, as in shells.

use std::ffi::OsStr;

#[allow(dead_code, reason = "the names of files are not long")]
#[path = "../../common/glob.rs"]
mod glob;

/// The longest pattern in bytes: as long as a name can be.
const LONGEST: usize = 255;

pub struct Pattern(Vec<u8>);

impl Pattern {
    /// `*`, `?`, `[a-z]`, `[^a]`, `[!a]`, and `\` before a literal. `None` if the text has no `*`, `?` or `[`, or is too long.
    pub fn new(text: &[u8]) -> Option<Pattern> {
        let is_special = |byte| b"*?[".contains(byte);
        let is_pattern = text.len() <= LONGEST && text.iter().any(is_special);
        is_pattern.then(|| Pattern(with_carets(text)))
    }

    pub fn matches(&self, name: &OsStr) -> bool {
        glob::matches(&self.0, name.as_encoded_bytes())
    }

    /// A comparison with this name takes at most so many steps.
    pub fn most_steps(&self, name: &OsStr) -> usize {
        self.0.len() * name.len()
    }
}

/// In a shell `!` and `^` negate a class. In the patterns of `glob.rs`, which are those of Redis, only `^` does.
fn with_carets(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    let (mut at, mut is_in_class) = (0, false);
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'[' if !is_in_class => {
                is_in_class = true;
                if text.get(at + 1) == Some(&b'!') {
                    text[at + 1] = b'^';
                }
            }
            b']' => is_in_class = false,
            _ => {}
        }
        at += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclamation_mark_negates_a_class_as_in_shells() {
        for (pattern, name, expected) in [
            ("[!a]", "a", false),
            ("[!a]", "b", true),
            ("[!a]", "!", true),
            ("x[!a-c]*", "xdx", true),
            ("x[!a-c]*", "xbx", false),
            ("[a!]", "!", true),
            ("[a[!]", "[", true),
            ("[a[!]", "!", true),
            ("[a[!]", "b", false),
            ("\\[!*", "[!", true),
            ("[!", "x", true),
            ("?[!a][!b]", "xya", true),
            ("?[!a][!b]", "xyb", false),
        ] {
            let matches = Pattern::new(pattern.as_bytes()).map(|it| it.matches(name.as_ref()));
            assert_eq!(matches, Some(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_has_a_special_character_and_is_no_longer_than_a_name() {
        let longest = "*".repeat(LONGEST);
        for text in ["*", "a?", "[", "\\*", &longest] {
            assert!(Pattern::new(text.as_bytes()).is_some(), "{text}");
        }
        let too_long = "*".repeat(LONGEST + 1);
        for text in ["", "a.txt", "a]", "{a,b}", "\\", &too_long] {
            assert!(Pattern::new(text.as_bytes()).is_none(), "{text}");
        }
    }
}
