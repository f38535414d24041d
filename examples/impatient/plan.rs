//! The commands that clients send, and the replies that they expect.
//!
//! [`Plan::learn`] sends each command once and stores its reply. In the barrage, the same command must get
//! the same reply, byte for byte. So the program needs no knowledge of a server's articles to test it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use asynchat::Result;
use bytes::Bytes;

use crate::dialogue::Dialogue;
use crate::endpoint::Endpoint;

/// A command and its reply.
#[derive(Debug)]
pub struct Exchange {
    /// With its CRLF. Empty for the greeting, which the server sends without a command.
    pub command: Bytes,
    /// The status line, without its CRLF.
    pub line: Bytes,
    /// The multi-line block that follows some status lines, its dots unstuffed.
    pub block: Option<Bytes>,
}

/// The exchanges that sessions are made of.
pub struct Plan {
    /// Each session begins with these: the greeting, MODE READER and GROUP.
    opening: [Exchange; Script::OPENING],
    /// These may be sent in any order, because each command names its article or its range.
    catalogue: Vec<Exchange>,
    quit: Exchange,
}

impl Plan {
    /// Sends each command to the server once and stores the replies. The commands name up to `articles`
    /// articles of `group`, or of the largest group.
    pub fn learn(endpoint: &Endpoint, group: Option<&str>, articles: u64) -> Result<Plan> {
        let (dialogue, greeting) = Dialogue::open(endpoint)?;
        let ask = |command: &str, codes: &[&str]| {
            let exchange = dialogue.ask(command)?;
            let is = |code: &&str| exchange.line.starts_with(code.as_bytes());
            if codes.iter().any(is) {
                Ok(exchange)
            } else {
                Err(exchange.unexpected(codes))
            }
        };
        let mode = ask("MODE READER", &["200", "201", "500"])?;
        let name = match group {
            Some(name) => name.to_owned(),
            None => largest_group(&ask("LIST", &["215"])?)?,
        };
        let group = ask(&format!("GROUP {name}"), &["211"])?;
        let (low, high) = group.water_marks()?;

        let newest = low.max(high.saturating_sub(99));
        let beyond = high.saturating_add(1_000_000);
        let mut catalogue = vec![
            ask("DATE", &["111"])?,
            ask("GARGLE", &["500"])?,
            ask(&format!("STAT {beyond}"), &["423"])?,
            ask(&format!("LISTGROUP {name} {newest}-{high}"), &["211"])?,
            ask(&format!("GROUP {name}"), &["211"])?,
        ];
        for number in spread(low, high, articles) {
            let stat = ask(&format!("STAT {number}"), &["223", "423"])?;
            if stat.line.starts_with(b"223") {
                let head = ask(&format!("HEAD {number}"), &["221"])?;
                let body = ask(&format!("BODY {number}"), &["222"])?;
                let article = ask(&format!("ARTICLE {number}"), &["220"])?;
                let last = high.min(number.saturating_add(4));
                let over = ask(&format!("OVER {number}-{last}"), &["224"])?;
                check_one_article(number, &stat, &head, &body, &article)?;
                catalogue.extend([head, body, article, over]);
            }
            catalogue.push(stat);
        }
        let quit = ask("QUIT", &["205"])?;
        Ok(Plan {
            opening: [greeting, mode, group],
            catalogue,
            quit,
        })
    }
}

/// The sequence of exchanges of one session.
///
/// The seed and the number `n` determine exchange `n`. So the producer that makes the commands and the
/// session that checks the replies compute the same sequence, and no queue of outstanding commands is
/// stored.
#[derive(Clone)]
pub struct Script {
    pub plan: Rc<Plan>,
    pub seed: u64,
    /// How many commands to send. GROUP and QUIT count, MODE READER does not.
    pub commands: u64,
}

impl Script {
    /// How many exchanges a session begins with.
    pub const OPENING: usize = 3;
    /// The number of the first command that may be sent without waiting. According to RFC 3977 the server
    /// sends the greeting first (section 5.1), and MODE READER must not be pipelined (section 5.3).
    pub const BARRAGE: u64 = 2;

    /// Exchange `n`. Number 0 is the greeting. After QUIT there is none.
    pub fn exchange(&self, n: u64) -> Option<&Exchange> {
        let Plan {
            opening,
            catalogue,
            quit,
        } = &*self.plan;
        let last = self.last();
        match n {
            n if n > last => None,
            n if n == last => Some(quit),
            n if n < opening.len() as u64 => opening.get(n as usize),
            n => {
                let mut dice = DefaultHasher::new();
                (self.seed, n).hash(&mut dice);
                catalogue.get((dice.finish() % catalogue.len() as u64) as usize)
            }
        }
    }

    /// The number of QUIT.
    pub fn last(&self) -> u64 {
        (Script::BARRAGE - 1).saturating_add(self.commands)
    }

    /// The commands of the barrage, in order.
    pub fn barrage(self) -> impl Iterator<Item = Bytes> {
        (Script::BARRAGE..).map_while(move |n| Some(self.exchange(n)?.command.clone()))
    }
}

impl Exchange {
    /// Whether a multi-line block follows the status line. After 211 it depends on the command: LISTGROUP
    /// has a block and GROUP has none (RFC 3977, section 3.2).
    pub fn has_block(command: &[u8], line: &[u8]) -> bool {
        match line.get(..3) {
            Some(b"211") => command.starts_with(b"LISTGROUP"),
            Some(b"215" | b"220" | b"221" | b"222" | b"224") => true,
            _ => false,
        }
    }

    /// Whether `line` equals the stored status line. Numbers are not compared in a greeting and in the
    /// replies to DATE and GROUP, because they may change.
    pub fn matches(&self, line: &[u8]) -> bool {
        let code = self.line.get(..3);
        let may_change = matches!(code, Some(b"111" | b"200" | b"201" | b"211"));
        let is_similar = || line.get(..3) == code && words(line).eq(words(&self.line));
        line == self.line || (may_change && is_similar())
    }

    fn unexpected(&self, codes: &[&str]) -> asynchat::Error {
        let command = self.command.trim_ascii_end().escape_ascii();
        let line = self.line.escape_ascii();
        format!("{command}: expected {}, got `{line}`", codes.join(" or ")).into()
    }

    fn word(&self, index: usize) -> Option<&str> {
        let line = std::str::from_utf8(&self.line).ok()?;
        line.split_ascii_whitespace().nth(index)
    }

    /// The lowest and the highest number in a reply to GROUP.
    fn water_marks(&self) -> Result<(u64, u64)> {
        let number = |index| self.word(index)?.parse::<u64>().ok();
        match (number(1), number(2), number(3)) {
            (Some(1..), Some(low), Some(high)) if low <= high => Ok((low, high)),
            (Some(_), Some(_), Some(_)) => Err("the group is empty".into()),
            _ => Err(self.unexpected(&["211 count low high"]).into()),
        }
    }
}

/// The words of a line, with each number replaced by 0.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let number = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    let words = line.split(|byte| *byte == b' ');
    words.map(move |word| if number(word) { b"0" } else { word })
}

/// The name of the group with the most articles in a reply to LIST.
fn largest_group(list: &Exchange) -> Result<String> {
    let text = String::from_utf8_lossy(list.block.as_deref().unwrap_or_default());
    let group = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        let high: u64 = words.next()?.parse().ok()?;
        let low: u64 = words.next()?.parse().ok()?;
        Some((high.checked_sub(low)?, name))
    };
    let largest = text.lines().filter_map(group).max();
    Ok(largest
        .ok_or("the server has no group with an article in it")?
        .1)
}

/// At most `count` numbers from `low` to `high`, evenly spread.
fn spread(low: u64, high: u64, count: u64) -> impl Iterator<Item = u64> {
    let step = ((high - low) / count).max(1);
    let numbers = (0..count).map(move |i| low + i * step);
    numbers.take_while(move |number| *number <= high)
}

/// Checks that the four replies belong to one article: each status line has its number and the same
/// Message-ID, and ARTICLE is HEAD, an empty line and BODY (RFC 3977, section 6.2.1).
fn check_one_article(
    number: u64,
    stat: &Exchange,
    head: &Exchange,
    body: &Exchange,
    article: &Exchange,
) -> Result {
    let number = number.to_string();
    for exchange in [stat, head, body, article] {
        if exchange.word(1) != Some(&number) || exchange.word(2) != stat.word(2) {
            return Err(exchange
                .unexpected(&[&format!("number {number} and one Message-ID")])
                .into());
        }
    }
    let text = |exchange: &Exchange| exchange.block.clone().unwrap_or_default();
    if text(article) != [&text(head)[..], b"\r\n", &text(body)].concat() {
        return Err(format!("ARTICLE {number} is not HEAD, an empty line and BODY").into());
    }
    Ok(())
}
