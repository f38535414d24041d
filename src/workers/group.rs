//! `SharedGroup`: connections of several workers that receive the same output.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::backlog::GroupBacklog;
use super::crew::Crew;
use super::topic::{Part, Topic};
use super::worker::Worker;
use crate::chat::group::Group;
use crate::chat::handle::Chat;
use crate::event_loop::EventLoop;
use crate::log::{Escaped, log_throttled};
use crate::state::ChannelId;
use crate::state::inbox::{Post, Wake};
use crate::user_code::discard_each;

/// A [`Group`] whose members are on several workers. From [`Worker::group`]: the same name is the same group on each
/// worker. Each worker has its own members, in a `Group` of its own.
///
/// A push costs one post and at most one wake-up for each other worker that has members, however many. Pushes of one
/// worker reach each member in their order. Two pushes of different workers may reach two members in different
/// orders. A session that pushes more than another worker takes gets no further records until that worker has caught up.
/// What waits for a worker that is busy has a [limit](crate::Workers::group_backlog).
///
/// ```
/// use asynchat::{Server, Workers};
///
/// # fn main() -> asynchat::Result {
/// let service = Workers::new().threads(2).start(|worker| {
///     let room = worker.group("lobby");
///     worker.listen(Server::new("127.0.0.1:0"), move |chat| {
///         room.push("somebody has joined\r\n");
///         room.add(&chat);
///         let room = room.clone();
///         move |line: &[u8]| {
///             room.push_except(chat.id(), [line, b"\r\n"].concat());
///             Ok(())
///         }
///     })?;
///     Ok(())
/// })?;
/// service.finish()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedGroup {
    topic: Arc<Topic>,
    members: Group,
    worker: usize,
}

impl SharedGroup {
    pub(super) fn new(groups: &Groups, name: &str, crew: &Arc<Crew>, worker: usize) -> Self {
        let (topic, members) = groups.find_or_add(name, crew, worker);
        SharedGroup {
            topic,
            members,
            worker,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.topic.name
    }

    /// Its members on this worker: to remove one, to count them, or to set what happens to
    /// [slow readers](Group::set_slow_readers) among them.
    pub fn members(&self) -> &Group {
        &self.members
    }

    /// Adds a connection of this worker: see [`Group::add`].
    pub fn add(&self, chat: &Chat) {
        self.members.add(chat);
    }

    /// Pushes `data` to every member. Those of this worker have it queued when this returns, those of other workers when
    /// their loops make the call. Returns false if the members of some worker miss it, because too much
    /// [waits](crate::Workers::group_backlog) for that worker.
    pub fn push(&self, data: impl Into<Bytes>) -> bool {
        let data = data.into();
        let reaches_all = self.push_elsewhere(&data);
        self.members.push(data);
        reaches_all
    }

    /// Pushes `data` to every member except this one, which is one of this worker. Returns what [`push`](SharedGroup::push)
    /// returns.
    pub fn push_except(&self, id: ChannelId, data: impl Into<Bytes>) -> bool {
        let data = data.into();
        let reaches_all = self.push_elsewhere(&data);
        self.members.push_except(id, data);
        reaches_all
    }

    fn push_elsewhere(&self, data: &Bytes) -> bool {
        let crew = &self.topic.crew;
        let mut reaches_all = true;
        let workers = crew.inboxes.iter().zip(&crew.backlogs).enumerate();
        for (number, (inbox, backlog)) in workers.filter(|(number, _)| *number != self.worker) {
            let Some(part) = self.topic.part(number).filter(|it| it.has_members()) else {
                continue;
            };
            let topic = Arc::clone(&self.topic);
            let added = backlog.add(data.len());
            if backlog.is_high() {
                hold_sender(number, backlog);
            }
            let Some(waiting) = added else {
                reaches_all = false;
                // One post for all that is missed until the worker makes the call.
                let report = move || report_missed(&topic, number);
                let wake = part.miss(|| inbox.enqueue(Post::Call(Box::new(report))));
                // A worker that has ended has no members.
                let _ = wake.map(|wake| wake.and_then(Wake::wake));
                continue;
            };
            let data = data.clone();
            let push = move || {
                // Its members have queues of their own, with limits of their own.
                drop(waiting);
                on_this_worker(&topic, |group| {
                    group.push(data);
                });
            };
            // As above.
            let _ = inbox.send(Post::Call(Box::new(push)));
        }
        reaches_all
    }
}

/// The session that pushes gets no further records until the worker has caught up. On one loop its next records wait for the
/// output of the members, too.
fn hold_sender(worker: usize, backlog: &GroupBacklog) {
    if let Ok(event_loop) = EventLoop::current()
        && event_loop.0.throttle_called(worker)
    {
        backlog.await_low(&event_loop.0.agenda.inbox);
    }
}

/// Calls `act` with the members of this worker, if there are any.
fn on_this_worker(topic: &Topic, act: impl FnOnce(&Group)) {
    let worker = Worker::current();
    // The last member may have gone.
    if let Some(group) = worker.and_then(|worker| worker.groups().find(&topic.name)) {
        act(&group);
    }
}

fn report_missed(topic: &Topic, worker: usize) {
    let missed = topic.part(worker).map_or(0, Part::take_missed);
    let group = Escaped(&*topic.name);
    log_throttled!(warn, %group, missed, "pushes to a group were dropped: its worker was busy for too long");
    if let Ok(event_loop) = EventLoop::current() {
        event_loop.0.counters.pushes_missed.add(missed);
    }
    on_this_worker(topic, Group::apply_policy_for_loss);
}

impl fmt::Debug for SharedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup")
            .field("name", &self.topic.name)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

/// The shared groups of a worker, by name.
#[derive(Default)]
pub(super) struct Groups(RefCell<Named>);

#[derive(Default)]
struct Named {
    groups: BTreeMap<Arc<str>, (Arc<Topic>, Group)>,
    /// With this many groups, unused ones are removed.
    prune_at: usize,
}

/// Below this many groups, nobody looks for unused ones.
const PRUNE_MIN: usize = 32;

impl Groups {
    fn find_or_add(&self, name: &str, crew: &Arc<Crew>, worker: usize) -> (Arc<Topic>, Group) {
        let known = self.0.borrow().groups.get(name).cloned();
        if let Some(known) = known {
            known.1.forget_policy_if_unused();
            return known;
        }
        self.prune();
        let mut named = self.0.borrow_mut();
        // A subscriber that `prune` has called may have asked for the same group.
        if let Some(known) = named.groups.get(name) {
            return known.clone();
        }
        let topic = Topic::find_or_add(crew, name);
        let group = match topic.part(worker) {
            Some(part) => Group::shared(&part.is_occupied),
            None => Group::default(),
        };
        let known = (Arc::clone(&topic), group);
        named.groups.insert(Arc::clone(&topic.name), known.clone());
        known
    }

    /// Clients may choose the names. Looking for unused groups when their number has doubled costs a constant time for
    /// each.
    fn prune(&self) {
        let groups: Vec<_> = {
            let named = self.0.borrow();
            if named.groups.len() < named.prune_at.max(PRUNE_MIN) {
                return;
            }
            named
                .groups
                .values()
                .map(|(_, group)| group.clone())
                .collect()
        };
        // Not while the groups are borrowed: the last handle of a member that has closed ends its span, and a
        // subscriber may ask for a group.
        for group in groups {
            group.forget_closed();
        }
        let mut named = self.0.borrow_mut();
        named.groups.retain(|_, (_, group)| group.is_used());
        named.prune_at = named.groups.len() * 2;
    }

    fn find(&self, name: &str) -> Option<Group> {
        let named = self.0.borrow();
        named.groups.get(name).map(|(_, group)| group.clone())
    }

    pub(super) fn clear(&self) {
        let named = self.0.take();
        discard_each(named.groups);
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use std::cell::Cell;
    use std::io::ErrorKind;
    use std::rc::Rc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::super::crew::Options;
    use super::super::worker::Entered;
    use super::*;
    use crate::sim::{Call, Network, Peer};
    use crate::state::load::AcceptorLink;
    use crate::time::deadlines::Deadlines;
    use crate::{AsyncChat, Close, Connector, Result, SlowReader};

    fn enter(event_loop: &EventLoop) -> Entered {
        let inbox = &event_loop.0.agenda.inbox;
        let options = Options {
            grace: Duration::ZERO,
            group_backlog: 0,
        };
        let crew = Crew::new(vec![Arc::clone(inbox)], &AcceptorLink::new(inbox), options);
        Worker::enter(0, &Arc::new(crew))
    }

    /// Clients may choose the names.
    #[test]
    fn unused_groups_are_removed() -> Result {
        let entered = enter(&EventLoop::new()?);
        let worker = entered.worker();
        let used = worker.group("used");
        for number in 0..10_000 {
            worker.group(&number.to_string()).push("nobody hears it");
        }
        let count = worker.groups().0.borrow().groups.len();
        assert!(count <= PRUNE_MIN, "{count} groups");
        assert!(Arc::ptr_eq(&used.topic, &worker.group("used").topic));
        Ok(())
    }

    /// It lasted until many other groups were made, so that a program which relied on it failed only then.
    #[test]
    fn a_policy_is_forgotten_with_the_last_member_and_handle_of_the_worker() -> Result {
        let network = Network::new(1);
        let event_loop = network.event_loop()?;
        let entered = enter(&event_loop);
        let room = || entered.worker().group("room");
        let set = |room: &SharedGroup| room.members().set_slow_readers(1, SlowReader::Abort);
        let has_policy = || room().members().has_policy();

        set(&room());
        assert!(!has_policy());

        let handle = room();
        set(&handle);
        assert!(has_policy());

        // Some members, of which the last one stays.
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (socket, peer) = network.pair();
            let connector = Connector::adopt(socket);
            handle.add(&connector.connect_on(&event_loop, |_| |_: &[u8]| Ok(()))?);
            peers.push(peer);
        }
        drop(handle);
        assert!(has_policy());
        peers.drain(..2);
        network.settle(&event_loop)?;
        assert!(has_policy());
        peers.clear();
        network.settle(&event_loop)?;
        assert!(!has_policy());
        Ok(())
    }

    /// Enters the first of the workers with these loops.
    fn enter_first(loops: &[&EventLoop]) -> Entered {
        let inboxes = loops.iter().map(|it| Arc::clone(&it.0.agenda.inbox));
        let options = Options {
            grace: Duration::ZERO,
            group_backlog: 64 << 10,
        };
        let link = AcceptorLink::new(&loops[0].0.agenda.inbox);
        Worker::enter(0, &Arc::new(Crew::new(inboxes.collect(), &link, options)))
    }

    /// How many lines the peers send: more than the backlog takes.
    const LINES: usize = 1000;

    /// Pushes each line to the group, and replies.
    struct Flooder {
        chat: Chat,
        room: SharedGroup,
        delivered: Rc<Cell<usize>>,
        at_close: Rc<Cell<Option<usize>>>,
    }

    impl AsyncChat for Flooder {
        fn found_terminator(&mut self, line: &[u8]) -> Result {
            self.room.push(line.to_vec());
            self.delivered.set(self.delivered.get() + 1);
            self.chat.push("ok\r\n");
            Ok(())
        }

        fn handle_close(&mut self, _: &Close) {
            self.at_close.set(Some(self.delivered.get()));
        }
    }

    /// A session of the first worker pushes lines to members on all the others, from a peer that has sent them.
    struct Flood {
        _entered: Entered,
        peer: Peer,
        delivered: Rc<Cell<usize>>,
        at_close: Rc<Cell<Option<usize>>>,
    }

    impl Flood {
        fn new(network: &Network, loops: &[&EventLoop], set_up: fn(&Chat)) -> Result<Self> {
            let entered = enter_first(loops);
            let room = entered.worker().group("room");
            for number in 1..loops.len() {
                let part = room.topic.part(number).expect("it has one for each worker");
                part.is_occupied.store(true, Ordering::SeqCst);
            }
            let (delivered, at_close) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
            let (of_session, close_of_session) = (Rc::clone(&delivered), Rc::clone(&at_close));
            loops[0].listen("10.0.0.1:7", move |chat| {
                set_up(&chat);
                Flooder {
                    chat,
                    room: room.clone(),
                    delivered: Rc::clone(&of_session),
                    at_close: Rc::clone(&close_of_session),
                }
            })?;
            let peer = network.connect("10.0.0.1:7")?;
            network.settle(loops[0])?;
            peer.send(format!("{:030}\r\n", 0).repeat(LINES));
            Ok(Flood {
                _entered: entered,
                peer,
                delivered,
                at_close,
            })
        }
    }

    /// A session that is throttled has not paused its reading: it is the other worker that has to catch up.
    #[test]
    fn what_a_session_has_received_is_delivered_although_its_connection_fails_while_it_is_throttled()
    -> Result {
        let resets: fn(&Network, &Peer) = |_, peer| peer.reset();
        let fails: fn(&Network, &Peer) = |network, _| {
            network.fail(Call::Send, ErrorKind::ConnectionReset);
        };
        for (how, fail) in [("reset", resets), ("failed send", fails)] {
            let network = Network::new(1);
            let [own, other] = [network.event_loop()?, network.event_loop()?];
            let flood = Flood::new(&network, &[&own, &other], |_| ())?;
            own.run_once(Duration::ZERO)?;
            own.run_once(Duration::ZERO)?;
            assert!(
                flood.delivered.get() < LINES / 2,
                "{how}: it is not throttled"
            );
            fail(&network, &flood.peer);
            network.settle(&own)?;
            network.advance(&own, Duration::from_secs(10))?;
            assert_eq!(flood.at_close.get(), None, "{how}");
            for _ in 0..100 {
                network.settle(&other)?;
                network.settle(&own)?;
            }
            network.advance(&own, Duration::from_secs(10))?;
            assert_eq!(flood.at_close.get(), Some(LINES), "{how}");
        }
        Ok(())
    }

    /// Of two workers for which a session waits, one may catch up long before the other.
    #[test]
    fn a_session_waits_for_each_worker_to_which_it_has_pushed_too_much() -> Result {
        let network = Network::new(1);
        let loops = [
            network.event_loop()?,
            network.event_loop()?,
            network.event_loop()?,
        ];
        let flood = Flood::new(&network, &loops.each_ref(), |_| ())?;
        let delivered = &flood.delivered;
        network.settle(&loops[0])?;
        let before = delivered.get();
        for _ in 0..100 {
            network.settle(&loops[1])?;
            network.settle(&loops[0])?;
        }
        assert_eq!(delivered.get(), before, "the third one has not caught up");
        for _ in 0..100 {
            for event_loop in &loops {
                network.settle(event_loop)?;
            }
        }
        assert_eq!(delivered.get(), LINES);
        assert_eq!(loops[0].stats().pushes_missed, 0);
        Ok(())
    }

    /// The peer has sent everything in time: it is this side that does not take it.
    #[test]
    fn a_throttled_session_is_not_idle() -> Result {
        let network = Network::new(1);
        let (own, other) = (network.event_loop()?, network.event_loop()?);
        let flood = Flood::new(&network, &[&own, &other], |chat| {
            chat.set_deadlines(Deadlines::default().idle(Duration::from_secs(2)));
        })?;
        let (peer, delivered) = (&flood.peer, &flood.delivered);
        network.settle(&own)?;
        assert!(delivered.get() < LINES);
        network.advance(&own, Duration::from_secs(61))?;
        for _ in 0..100 {
            network.settle(&other)?;
            network.settle(&own)?;
        }
        assert_eq!(delivered.get(), LINES);
        // It is idle from now on.
        network.advance(&own, Duration::from_millis(1900))?;
        assert!(!peer.has_ended());
        network.advance(&own, Duration::from_millis(200))?;
        assert!(peer.has_ended());
        Ok(())
    }
}
