//! What a line means.

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command<'a> {
    Nick(&'a str),
    Join(&'a str),
    /// The room, or the one that was joined last.
    Part(Option<&'a str>),
    /// Who is in the room; without one, which rooms there are.
    Who(Option<&'a str>),
    Msg(&'a str, &'a str),
    Quit(&'a str),
    Help,
    /// For the room that was joined last.
    Say(&'a str),
    Nothing,
    /// What is wrong with it.
    Wrong(&'static str),
}

/// The longest nick, and the longest name of a room.
const NAME: usize = 24;

const NAMES: &str = "a name has up to 24 letters, digits, - and _";

impl<'a> Command<'a> {
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return match line {
                "" => Command::Nothing,
                line => Command::Say(line),
            };
        };
        let (verb, rest) = split(command);
        match (verb, rest) {
            ("nick", name) => named(name).map_or_else(Command::Wrong, Command::Nick),
            ("join", name) => named(room(name)).map_or_else(Command::Wrong, Command::Join),
            ("part", "") => Command::Part(None),
            ("part", name) => Command::Part(Some(room(name))),
            ("who", "") => Command::Who(None),
            ("who", name) => Command::Who(Some(room(name))),
            ("msg", rest) => match split(rest) {
                ("", _) | (_, "") => Command::Wrong("/msg NICK TEXT"),
                (nick, text) => Command::Msg(nick, text),
            },
            ("quit", text) => Command::Quit(text),
            ("help", _) => Command::Help,
            _ => Command::Wrong("no such command; /help tells them"),
        }
    }
}

/// The first word, and what follows.
fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    (first, rest.trim_start())
}

/// Rooms are shown with a #, so they may be written with one.
fn room(name: &str) -> &str {
    name.strip_prefix('#').unwrap_or(name)
}

fn named(name: &str) -> Result<&str, &'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match (1..=NAME).contains(&name.len()) && name.bytes().all(fits) {
        true => Ok(name),
        false => Err(NAMES),
    }
}
