//! What the pollers of a simulated network watch, and what there is to report to them.

use std::io;

use super::conditions::Call;
use super::net::{Id, Net};
use crate::sys::poller::{Interest, Ready, Report};

/// What a poller was told to watch.
pub(super) struct Watched {
    poller: Id,
    key: usize,
    interest: Interest,
}

impl Net {
    pub(super) fn watch(
        &mut self,
        poller: Id,
        id: Id,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        self.fault(Call::Watch)?;
        if self.watched.contains_key(&id) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let watched = Watched {
            poller,
            key,
            interest,
        };
        self.watched.insert(id, watched);
        Ok(())
    }

    pub(super) fn set_interest(&mut self, id: Id, interest: Interest) -> io::Result<()> {
        self.fault(Call::Watch)?;
        match self.watched.get_mut(&id) {
            Some(watched) => watched.interest = interest,
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    /// It has reported. If it, or its poller, is one-shot, it has to be armed again.
    pub(super) fn reported(&mut self, id: Id, one_shot: bool) {
        if let Some(watched) = self.watched.get_mut(&id)
            && (one_shot || watched.interest == Interest::HANG_UP)
        {
            watched.interest = Interest::NONE;
        }
    }

    pub(super) fn unwatch(&mut self, id: Id) {
        self.watched.remove(&id);
    }

    /// What there is to report to this poller.
    pub(super) fn ready(&self, poller: Id) -> Vec<(Id, Report)> {
        let watched = self.watched.iter().filter(|(_, it)| it.poller == poller);
        watched
            .filter_map(|(id, it)| {
                let (key, ready) = (it.key, self.look(*id, it));
                let any = ready.read || ready.write || ready.urgent;
                any.then_some((*id, Report { key, ready }))
            })
            .collect()
    }

    fn look(&self, id: Id, watched: &Watched) -> Ready {
        let mut ready = Ready::NOTHING;
        // One-shot, and not armed again.
        if watched.interest == Interest::NONE {
            return ready;
        }
        if let Some(listening) = self.listeners.get(&id) {
            ready.read = watched.interest.read && !listening.queue.is_empty();
        } else if let Some(end) = self.ends.get(&id) {
            let (read, write) = end.readiness(self.room(id));
            let hung_up = end.has_hung_up();
            ready.read = (watched.interest.read && read) || hung_up;
            ready.write = (watched.interest.write && write) || hung_up;
            ready.urgent = watched.interest.read && end.urgent.is_some();
            ready.hung_up = hung_up;
        }
        ready
    }
}
