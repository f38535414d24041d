//! A channel that only sends has its turn without its driver. Each random program runs twice, and both runs must agree. In the
//! second run every connection has a far timer, so the driver takes every turn.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Network, Peer};
use asynchat::{
    AsyncChat, Chat, Close, Connector, Deadlines, Eof, EventLoop, Group, Limits, Result,
};

#[path = "simulation/rng.rs"]
mod rng;

use rng::Rng;

const MEMBERS: usize = 4;

/// Not reached: a program takes a few seconds.
const FAR: Duration = Duration::from_secs(1_000_000);

/// Logs its callbacks.
struct Member {
    chat: Chat,
    log: Rc<RefCell<String>>,
}

impl Member {
    fn note(&self, what: std::fmt::Arguments<'_>) {
        let queued = self.chat.queued();
        let mut log = self.log.borrow_mut();
        writeln!(log, "{what}, {queued} queued").expect("a string takes it");
    }
}

impl AsyncChat for Member {
    fn found_terminator(&mut self, line: &[u8]) -> Result {
        self.note(format_args!("line of {}", line.len()));
        self.chat.push_slices(&[line, b"\r\n"]);
        Ok(())
    }

    fn handle_eof(&mut self, rest: &[u8]) -> Result<Eof> {
        self.note(format_args!("end with {}", rest.len()));
        Ok(if rest.len().is_multiple_of(2) {
            Eof::StayOpen
        } else {
            Eof::CloseWhenDone
        })
    }

    fn handle_low_water(&mut self) -> Result {
        self.note(format_args!("low water"));
        Ok(())
    }

    fn handle_close(&mut self, why: &Close) {
        self.note(format_args!("close {why}, sent all: {}", why.sent_all()));
    }
}

struct Scene {
    network: Network,
    event_loop: EventLoop,
    group: Group,
    chats: Vec<Chat>,
    peers: Vec<Peer>,
    logs: Vec<Rc<RefCell<String>>>,
}

impl Scene {
    fn new(rng: &Rng, uses_driver: bool) -> Result<Scene> {
        let network = Network::new(1);
        let mut conditions = Conditions::default().buffer(1 + rng.below(400));
        conditions.one_shot = rng.one_in(2);
        network.set_conditions(conditions);
        let event_loop = network.event_loop()?;
        let mut scene = Scene {
            network,
            event_loop,
            group: Group::default(),
            chats: Vec::new(),
            peers: Vec::new(),
            logs: Vec::new(),
        };
        let limits = Limits::default()
            .high_water(1 + rng.below(500))
            .low_water(rng.below(200))
            .turn_write(1 + rng.below(100));
        for _ in 0..MEMBERS {
            let (socket, peer) = scene.network.pair();
            let log = Rc::new(RefCell::new(String::new()));
            let logged = Rc::clone(&log);
            let connector = Connector::adopt(socket).limits(limits);
            let connector = match rng.below(3) {
                0 => connector.deadlines(
                    Deadlines::default()
                        .idle(Duration::from_secs(3))
                        .drain(Duration::from_secs(2)),
                ),
                _ => connector,
            };
            let session = move |chat| Member { chat, log: logged };
            let chat = connector.connect_on(&scene.event_loop, session)?;
            scene.group.add(&chat);
            if uses_driver {
                chat.call_later(FAR);
            }
            scene.chats.push(chat);
            scene.peers.push(peer);
            scene.logs.push(log);
        }
        scene.network.settle(&scene.event_loop)?;
        Ok(scene)
    }

    fn act(&self, rng: &Rng) -> Result {
        let member = rng.below(MEMBERS);
        let (chat, peer) = (&self.chats[member], &self.peers[member]);
        match rng.below(24) {
            0..=7 => drop(self.group.push(vec![b'g'; rng.below(150)])),
            8..=9 => chat.push(rng.output()),
            10 => peer.send(rng.input()),
            11 => peer.stop_reading(),
            12 => peer.start_reading(rng.below(300)),
            13 => peer.start_reading(usize::MAX),
            14 if rng.one_in(4) => peer.finish(),
            15 if rng.one_in(8) => peer.reset(),
            16 => chat.pause_reading(),
            17 => chat.resume_reading(),
            18 => chat.set_limits(
                Limits::default()
                    .high_water(1 + rng.below(500))
                    .turn_write(1 + rng.below(100)),
            ),
            19 if rng.one_in(6) => chat.shutdown_write(),
            20 if rng.one_in(6) => chat.close_when_done(),
            21 if rng.one_in(4) => {
                let kinds = [
                    io::ErrorKind::ConnectionReset,
                    io::ErrorKind::BrokenPipe,
                    io::ErrorKind::Other,
                ];
                let kind = kinds[rng.below(kinds.len())];
                // The next send is that of this member.
                self.network.settle(&self.event_loop)?;
                self.network.fail(Call::Send, kind);
                chat.push("x");
            }
            22 => chat.push_hook(|| ()),
            _ => self.network.advance(
                &self.event_loop,
                Duration::from_millis(rng.below(900) as u64),
            )?,
        }
        if rng.one_in(2) {
            self.network.settle(&self.event_loop)?;
        }
        Ok(())
    }

    /// What the sessions and the peers have seen.
    fn outcome(self) -> Result<Vec<String>> {
        for peer in &self.peers {
            peer.start_reading(usize::MAX);
        }
        self.network.settle(&self.event_loop)?;
        let seen = self.logs.iter().zip(&self.peers).map(|(log, peer)| {
            let received = peer.received();
            let received = String::from_utf8_lossy(&received);
            format!("{}{received:?}, {:?}", log.borrow(), peer.ended())
        });
        Ok(seen.collect())
    }
}

fn run(seed: u64, uses_driver: bool) -> Result<Vec<String>> {
    let rng = Rng::new(seed);
    let scene = Scene::new(&rng, uses_driver)?;
    for _ in 0..60 {
        scene.act(&rng)?;
    }
    scene.outcome()
}

#[test]
fn sending_without_the_driver_has_the_same_effects() -> Result {
    for seed in 0..500 {
        assert_eq!(run(seed, false)?, run(seed, true)?, "seed {seed}");
    }
    Ok(())
}
