//! Messages of IRC, on their way in and out (RFC 2812 section 2.3, IRCv3 message-tags).

/// The most bytes of a message with its CRLF, without tags (RFC 2812 section 2.3).
pub const MOST: usize = 512;

/// The most bytes of the tags before it (message-tags, "Size limit").
pub const MOST_TAGS: usize = 8191;

/// A message that came. Who sent it, what it is, and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// A nickname, or the name of a server.
    pub from: Option<&'a str>,
    pub command: &'a str,
    pub params: Vec<&'a str>,
}

impl<'a> Message<'a> {
    /// `None` when there is no command in it.
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

    /// The parameter of this number, from 0; none is empty.
    pub fn param(&self, number: usize) -> &'a str {
        self.params.get(number).copied().unwrap_or_default()
    }
}

/// The first word, and what follows the spaces behind it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word, rest.trim_start_matches(' '))
}

/// Makes one line of a text, whatever is in it, of no more than a message may have.
pub fn line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if "\r\n\0".contains(c) { ' ' } else { c })
        .collect();
    let most = MOST - "\r\n".len();
    if line.len() > most {
        let end = (0..=most).rev().find(|end| line.is_char_boundary(*end));
        line.truncate(end.unwrap_or(0));
    }
    line.push_str("\r\n");
    line
}

/// A nickname or channel in lower case, as servers compare them: `{}|^` are those of `[]\~`
/// (RFC 2812 section 2.2).
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
