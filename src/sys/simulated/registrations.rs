//! What the pollers of a simulated network watch, and what they report.

use std::io;

use super::conditions::Call;
use super::net::{Id, Net};
use crate::sys::interest::{Event, Interest, Ready};

/// A socket's registration with a poller.
pub(super) struct Registration {
    poller: Id,
    key: usize,
    interest: Interest,
}

impl Net {
    pub(super) fn add(
        &mut self,
        poller: Id,
        id: Id,
        key: usize,
        interest: Interest,
    ) -> io::Result<()> {
        if self.registrations.contains_key(&id) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let registration = Registration {
            poller,
            key,
            interest,
        };
        self.registrations.insert(id, registration);
        // As with kqueue, a socket that the system refuses is in the table of `polling` by then.
        self.take_fault(Call::Watch)
    }

    pub(super) fn modify(&mut self, id: Id, interest: Interest) -> io::Result<()> {
        self.take_fault(Call::Watch)?;
        match self.registrations.get_mut(&id) {
            Some(registration) => registration.interest = interest,
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, id: Id) {
        self.registrations.remove(&id);
    }

    /// Notes that an event was reported. If the registration or its poller is one-shot, it has to be
    /// armed again.
    pub(super) fn disarm_if_one_shot(&mut self, id: Id, is_poller_one_shot: bool) {
        if let Some(registration) = self.registrations.get_mut(&id)
            && (is_poller_one_shot || registration.interest == Interest::HANG_UP)
        {
            registration.interest = Interest::NONE;
        }
    }

    /// The sockets of this poller that are ready, with the event of each.
    pub(super) fn ready(&self, poller: Id) -> Vec<(Id, Event)> {
        let watched = self.registrations.iter();
        watched
            .filter(|(_, registration)| registration.poller == poller)
            .filter_map(|(id, registration)| {
                let ready = self.readiness(*id, registration.interest);
                let key = registration.key;
                let reported = Ready::READ.union(Ready::WRITE).union(Ready::URGENT);
                ready.has(reported).then_some((*id, Event { key, ready }))
            })
            .collect()
    }

    fn readiness(&self, id: Id, interest: Interest) -> Ready {
        // A one-shot registration that was not armed again.
        if interest.is_none() {
            return Ready::NONE;
        }
        if let Some(listening) = self.listeners.get(&id) {
            return Ready::READ.when(interest.reads() && !listening.queue.is_empty());
        }
        let Some(end) = self.ends.get(&id) else {
            return Ready::NONE;
        };
        let (read, write) = end.readiness(self.room(id));
        let hung_up = end.has_hung_up();
        (Ready::READ.when((interest.reads() && read) || hung_up))
            .union(Ready::WRITE.when((interest.writes() && write) || hung_up))
            .union(Ready::URGENT.when(interest.reads() && end.urgent.is_some()))
            .union(Ready::HUNG_UP.when(hung_up))
    }
}
