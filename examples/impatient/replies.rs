//! Checks the replies of one session: each must equal the next reply of its script, byte for byte.

use asynchat::{Chat, Error, Result, Terminator};

use crate::plan::{Exchange, Script};

/// A block is compared chunk by chunk and is not stored.
const BLOCK: Terminator = Terminator::dot_block().streamed();

pub struct Replies {
    script: Script,
    /// How many replies have arrived, which is also the number of the next one.
    count: u64,
    /// After the status line: how many bytes of the block have arrived.
    block: Option<usize>,
}

impl Replies {
    pub fn new(script: Script) -> Replies {
        Replies {
            script,
            count: 0,
            block: None,
        }
    }

    pub fn script(&self) -> &Script {
        &self.script
    }

    /// How many replies have arrived.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many replies have not arrived.
    pub fn missing(&self) -> u64 {
        (self.script.last() + 1).saturating_sub(self.count)
    }

    /// Checks a status line or the end of a block. Returns whether the reply is complete.
    pub fn found_terminator(&mut self, chat: &Chat, record: &[u8]) -> Result<bool> {
        let Some(exchange) = self.script.exchange(self.count) else {
            let line = record.escape_ascii();
            return Err(format!("got `{line}` after the reply to QUIT").into());
        };
        match (self.block, &exchange.block) {
            (None, block) => {
                if !exchange.matches(record) {
                    return Err(self.difference(exchange, &exchange.line, record).into());
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
                    return Err(self.difference(exchange, rest, b".").into());
                }
                self.block = None;
                chat.set_terminator(Terminator::crlf());
            }
        }
        self.count += 1;
        Ok(true)
    }

    /// Checks a part of a block.
    pub fn collect_incoming_data(&mut self, chunk: &[u8]) -> Result {
        let (Some(at), Some(exchange)) = (self.block, self.script.exchange(self.count)) else {
            return Ok(());
        };
        let rest = exchange.block.as_deref().unwrap_or_default();
        let rest = rest.get(at..).unwrap_or_default();
        if !rest.starts_with(chunk) {
            return Err(self.difference(exchange, rest, chunk).into());
        }
        self.block = Some(at + chunk.len());
        Ok(())
    }

    /// An error that shows both texts around their first difference.
    #[cold]
    fn difference(&self, exchange: &Exchange, expected: &[u8], got: &[u8]) -> Error {
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
        let number = self.count;
        format!("command {number}, `{command}`{place}: expected `{expected}`, got `{got}`").into()
    }
}
