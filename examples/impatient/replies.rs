//! The replies of one session: each has to be the next of its script, byte for byte.

use asynchat::{Chat, Error, Result, Terminator};

use crate::plan::{Exchange, Script};

/// A block is compared as it comes, and never held.
const BLOCK: Terminator = Terminator::dot_block().streamed();

pub struct Replies {
    script: Script,
    /// The number of the reply that is due: how many have come.
    due: u64,
    /// How much of its block has come, once its status line has.
    block: Option<usize>,
}

impl Replies {
    pub fn new(script: Script) -> Replies {
        Replies {
            script,
            due: 0,
            block: None,
        }
    }

    pub fn script(&self) -> &Script {
        &self.script
    }

    /// How many have come.
    pub fn count(&self) -> u64 {
        self.due
    }

    /// How many are still to come.
    pub fn missing(&self) -> u64 {
        (self.script.last() + 1).saturating_sub(self.due)
    }

    /// A status line, or the end of a block; says whether a reply is complete with it.
    pub fn found_terminator(&mut self, chat: &Chat, record: &[u8]) -> Result<bool> {
        let Some(exchange) = self.script.exchange(self.due) else {
            let line = record.escape_ascii();
            return Err(format!("got `{line}` after the reply to QUIT").into());
        };
        match (self.block, &exchange.block) {
            (None, block) => {
                if !exchange.agrees(record) {
                    return Err(self.wrong(exchange, &exchange.line, record));
                }
                if block.is_some() {
                    self.block = Some(0);
                    chat.set_terminator(BLOCK);
                    return Ok(false);
                }
            }
            (Some(at), block) => {
                let rest = block.as_deref().unwrap_or_default().get(at..);
                if let Some(rest @ [_, ..]) = rest {
                    return Err(self.wrong(exchange, rest, b"."));
                }
                self.block = None;
                chat.set_terminator(Terminator::crlf());
            }
        }
        self.due += 1;
        Ok(true)
    }

    /// A part of a block.
    pub fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let (Some(at), Some(exchange)) = (self.block, self.script.exchange(self.due)) else {
            return Ok(());
        };
        let rest = exchange.block.as_deref().unwrap_or_default();
        let rest = rest.get(at..).unwrap_or_default();
        if !rest.starts_with(chunk) {
            return Err(self.wrong(exchange, rest, chunk));
        }
        self.block = Some(at + chunk.len());
        Ok(())
    }

    /// The first difference, and what came before it.
    #[cold]
    fn wrong(&self, exchange: &Exchange, expected: &[u8], got: &[u8]) -> Error {
        let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
        let excerpt = |text: &[u8]| {
            let from = same.saturating_sub(20);
            let text = text.get(from..).unwrap_or_default();
            text.get(..60).unwrap_or(text).escape_ascii().to_string()
        };
        let place = match self.block {
            Some(at) => format!(", byte {} of its block", at + same),
            None => String::new(),
        };
        let command = exchange.command.trim_ascii_end().escape_ascii();
        let (expected, got) = (excerpt(expected), excerpt(got));
        let number = self.due;
        format!("command {number}, `{command}`{place}: expected `{expected}`, got `{got}`").into()
    }
}
