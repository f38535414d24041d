//! What is asked, and what has to come back.
//!
//! Every command is first asked patiently, and the reply kept. In the barrage the same command
//! has to get the same reply, byte for byte, which makes this a test of any server.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use asynchat::{Result, Target};
use bytes::Bytes;

use crate::dialogue::Dialogue;

/// A command and its reply.
#[derive(Debug)]
pub struct Exchange {
    /// With its CRLF; empty for the greeting, which nobody asks for.
    pub command: Bytes,
    /// The status line, without its CRLF.
    pub line: Bytes,
    /// The multi-line block that follows some status lines, its dots unstuffed.
    pub block: Option<Bytes>,
}

/// What can be asked of a server.
pub struct Plan {
    /// The greeting, MODE READER and GROUP: how each session begins.
    opening: [Exchange; Script::OPENING],
    /// Asked in any order, for each names its article or its range.
    catalogue: Vec<Exchange>,
    quit: Exchange,
}

impl Plan {
    /// Learns from the server: of so many articles of its group, or of its largest group.
    pub fn learn(target: Target, group: Option<&str>, articles: u64) -> Result<Plan> {
        let (dialogue, greeting) = Dialogue::open(target)?;
        let ask = |command: &str, codes: &[&str]| {
            let exchange = dialogue.ask(command)?;
            let is = |code: &&str| exchange.line.starts_with(code.as_bytes());
            match codes.iter().any(is) {
                true => Ok(exchange),
                false => Err(exchange.refused(codes)),
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
                are_of_one_article(number, &stat, &head, &body, &article)?;
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

/// One session's way through the plan.
///
/// Which command is number `n` follows from `n` alone. So the producer that writes the barrage and
/// the session that checks the replies need not share a queue of what is under way: a million
/// commands take no memory at all.
#[derive(Clone)]
pub struct Script {
    pub plan: Rc<Plan>,
    pub seed: u64,
    /// How many commands, GROUP and QUIT among them, but not MODE READER.
    pub commands: u64,
}

impl Script {
    /// How many exchanges open a session.
    pub const OPENING: usize = 3;
    /// The first command that may be sent without waiting. RFC 3977 has the server speak first
    /// (section 5.1), and MODE READER may not be pipelined (section 5.3).
    pub const BARRAGE: u64 = 2;

    /// The exchange number `n`, from 0, the greeting; `None` after QUIT.
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

    /// The commands of the barrage, in their order.
    pub fn barrage(self) -> impl Iterator<Item = Bytes> {
        (Script::BARRAGE..).map_while(move |n| Some(self.exchange(n)?.command.clone()))
    }
}

impl Exchange {
    /// Whether its reply has a block. 211 has one after LISTGROUP and none after GROUP: RFC 3977,
    /// section 3.2, warns of it.
    pub fn has_block(command: &[u8], line: &[u8]) -> bool {
        match line.get(..3) {
            Some(b"211") => command.starts_with(b"LISTGROUP"),
            Some(b"215" | b"220" | b"221" | b"222" | b"224") => true,
            _ => false,
        }
    }

    /// Whether `line` will do as the status line. The time, the size of a group and what a
    /// greeting counts may be others the next time: there, numbers are not compared.
    pub fn agrees(&self, line: &[u8]) -> bool {
        let code = self.line.get(..3);
        let changes = matches!(code, Some(b"111" | b"200" | b"201" | b"211"));
        let similar = || line.get(..3) == code && words(line).eq(words(&self.line));
        line == self.line || (changes && similar())
    }

    fn refused(&self, codes: &[&str]) -> asynchat::Error {
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
            _ => Err(self.refused(&["211 count low high"])),
        }
    }
}

/// The words of a line, every number replaced by the same one.
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

/// The four replies about an article tell of the same: its number and its Message-ID in each
/// status line, and ARTICLE is HEAD, an empty line and BODY (RFC 3977, section 6.2.1).
fn are_of_one_article(
    number: u64,
    stat: &Exchange,
    head: &Exchange,
    body: &Exchange,
    article: &Exchange,
) -> Result {
    let number = number.to_string();
    for exchange in [stat, head, body, article] {
        if exchange.word(1) != Some(&number) || exchange.word(2) != stat.word(2) {
            return Err(exchange.refused(&[&format!("number {number} and one Message-ID")]));
        }
    }
    let text = |exchange: &Exchange| exchange.block.clone().unwrap_or_default();
    if text(article) != [&text(head)[..], b"\r\n", &text(body)].concat() {
        return Err(format!("ARTICLE {number} is not HEAD, an empty line and BODY").into());
    }
    Ok(())
}
