//! Parses and formats IRC messages (RFC 2812 section 2.3, IRCv3 message-tags).

/// The maximum length of a message with its CRLF and without its tags (RFC 2812 section 2.3).
pub const MAX_MESSAGE: usize = 512;

/// The maximum length of the tags before a message (message-tags, "Size limit").
pub const MAX_TAGS: usize = 8191;

/// A received message: its sender, its command and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The nickname of a user, or the name of a server.
    pub from: Option<&'a str>,
    pub command: &'a str,
    pub params: Vec<&'a str>,
}

impl<'a> Message<'a> {
    /// Parses a line. Returns `None` if it contains no command.
    pub fn parse(line: &'a str) -> Option<Self> {
        let mut rest = line.trim_start_matches(' ');
        if rest.starts_with('@') {
            rest = word(rest).1;
        }
        let mut from = None;
        if let Some(with_prefix) = rest.strip_prefix(':') {
            let (prefix, after) = word(with_prefix);
            from = prefix.split(['!', '@']).next();
            rest = after;
        }
        let (command, mut rest) = word(rest);
        let mut params = Vec::new();
        while !rest.is_empty() {
            if let Some(last) = rest.strip_prefix(':') {
                params.push(last);
                break;
            }
            let (param, after) = word(rest);
            params.push(param);
            rest = after;
        }
        (!command.is_empty()).then_some(Message {
            from,
            command,
            params,
        })
    }

    /// The parameter with this number, from 0. A missing parameter is empty.
    pub fn param(&self, number: usize) -> &'a str {
        self.params.get(number).copied().unwrap_or_default()
    }
}

/// Splits a text after its first word and the spaces that follow.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

/// Makes a message from a text: line ends and NULs become spaces, and a long text is truncated.
pub fn line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if "\r\n\0".contains(c) { ' ' } else { c })
        .collect();
    let max = MAX_MESSAGE - "\r\n".len();
    if line.len() > max {
        let end = (0..=max).rev().find(|end| line.is_char_boundary(*end));
        line.truncate(end.unwrap_or(0));
    }
    line.push_str("\r\n");
    line
}

/// A nickname or channel in lower case, as servers compare them: `{}|^` are the lower case of `[]\~` (RFC
/// 2812 section 2.2).
pub fn folded(name: &str) -> String {
    let fold = |c| match c {
        '[' => '{',
        ']' => '}',
        '\\' => '|',
        '~' => '^',
        c => c.to_ascii_lowercase(),
    };
    name.chars().map(fold).collect()
}
