//! The commands that have come during a transfer. They are done after it.

use std::collections::VecDeque;

use super::command::Command;

/// So many commands may wait, with so many bytes in all. Some clients send all they have at once.
const MOST: usize = 100;
const MOST_BYTES: usize = 16 << 10;

/// So many of NOOP may wait, which are one command where they follow each other. Clients send one each half a minute or more
/// often, so that no router on the way forgets the control connection, and a transfer can take days.
const MOST_NOOPS: usize = 100_000;

#[derive(Default)]
pub struct Waiting(VecDeque<Repeated>);

/// A command that has come several times in a row, if it is NOOP.
pub struct Repeated {
    pub command: Command,
    pub count: usize,
    /// A transfer that does not begin.
    pub is_aborted: bool,
}

impl Waiting {
    /// Returns whether the command may wait.
    pub fn add(&mut self, command: Command) -> bool {
        let is_noop = command.name == "NOOP";
        if is_noop && self.noops() == MOST_NOOPS {
            return false;
        }
        if is_noop
            && let Some(last) = self.0.back_mut()
            && last.command.name == "NOOP"
        {
            last.count += 1;
            return true;
        }
        if self.0.len() == MOST || self.bytes() + command.size() > MOST_BYTES {
            return false;
        }
        self.push_back(command);
        true
    }

    /// Adds a command without a limit.
    pub fn push_back(&mut self, command: Command) {
        self.0.push_back(Repeated {
            command,
            count: 1,
            is_aborted: false,
        });
    }

    /// ABOR has come: the transfers that wait do not begin. Returns whether there are some.
    pub fn abort_transfers(&mut self) -> bool {
        let transfers = self.0.iter_mut();
        let transfers = transfers.filter(|it| transfer_name(&it.command).is_some());
        let aborted = transfers.map(|it| it.is_aborted = true);
        aborted.count() > 0
    }

    pub fn front(&self) -> Option<&Command> {
        self.0.front().map(|it| &it.command)
    }

    pub fn pop_front(&mut self) -> Option<Repeated> {
        self.0.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|it| it.command.name == name)
    }

    fn noops(&self) -> usize {
        let noops = self.0.iter().filter(|it| it.command.name == "NOOP");
        noops.map(|it| it.count).sum()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|it| it.command.size()).sum()
    }
}

/// The name of a command that is one for a transfer.
pub fn transfer_name(command: &Command) -> Option<&'static str> {
    let names = ["RETR", "STOR", "APPE", "LIST", "NLST", "MLSD"];
    names.into_iter().find(|name| *name == command.name)
}
