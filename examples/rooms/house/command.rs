//! Parses the lines that members send.

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command<'a> {
    Nick(&'a str),
    Join(&'a str),
    /// Leaves this room, or the room that was joined last.
    Part(Option<&'a str>),
    /// Lists the members of this room, or all rooms.
    Who(Option<&'a str>),
    /// A private message to this nick.
    Msg(&'a str, &'a str),
    Quit(&'a str),
    Help,
    /// Text for the room that was joined last.
    Say(&'a str),
    Empty,
    /// The line is malformed; the text is the error message.
    Invalid(&'static str),
}

/// The maximum length of a nick and of a room's name.
const MAX_NAME: usize = 24;

const NAME_RULE: &str = "a name has up to 24 letters, digits, - and _";

impl<'a> Command<'a> {
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return match line {
                "" => Command::Empty,
                line => Command::Say(line),
            };
        };
        let (verb, rest) = split(command);
        match (verb, rest) {
            ("nick", name) => valid_name(name).map_or_else(Command::Invalid, Command::Nick),
            ("join", name) => {
                valid_name(without_hash(name)).map_or_else(Command::Invalid, Command::Join)
            }
            ("part", "") => Command::Part(None),
            ("part", name) => Command::Part(Some(without_hash(name))),
            ("who", "") => Command::Who(None),
            ("who", name) => Command::Who(Some(without_hash(name))),
            ("msg", rest) => match split(rest) {
                ("", _) | (_, "") => Command::Invalid("/msg NICK TEXT"),
                (nick, text) => Command::Msg(nick, text),
            },
            ("quit", text) => Command::Quit(text),
            ("help", _) => Command::Help,
            _ => Command::Invalid("no such command; /help lists them"),
        }
    }
}

/// Splits the text after its first word.
fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    (first, rest.trim_start())
}

/// Removes the # before the name of a room. It is optional in commands.
fn without_hash(name: &str) -> &str {
    name.strip_prefix('#').unwrap_or(name)
}

fn valid_name(name: &str) -> Result<&str, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) {
        Ok(name)
    } else {
        Err(NAME_RULE)
    }
}
