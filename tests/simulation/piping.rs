//! Pipes: whatever the network and the kernel do, each peer receives the bytes of the other in their order, all of them
//! if both ends are orderly, and memory and turns stay within their bounds.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use asynchat::sim::{Call, Conditions, Ended, Network, Peer};
use asynchat::{AsyncChat, Close, Connector, Limits, Result};

use crate::rng::Rng;
use crate::seeds::Outcome;

/// Logs its end. The loop passes its input on.
struct End(Rc<RefCell<Vec<String>>>);

impl AsyncChat for End {
    fn found_terminator(&mut self, _record: &[u8]) -> Result {
        Err("a piped session gets no record".into())
    }

    fn handle_close(&mut self, why: &Close) {
        self.0.borrow_mut().push(why.to_string());
    }
}

/// How the stream ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    /// Both peers finish sending, at different times.
    Orderly,
    /// One peer resets its connection in the middle.
    Reset,
    /// One peer stops receiving in the middle.
    NoReceiver,
    /// A call on a socket fails in the middle, perhaps a send that follows a receive at once.
    FailedCall,
}

/// One direction of a pipe.
struct Way {
    data: Vec<u8>,
    sent: usize,
    is_finished: bool,
    received: Vec<u8>,
}

pub(crate) fn run(seed: u64, logs: bool) -> Result<Outcome> {
    let rng = Rng::new(seed);
    let high = 1 + rng.below(20_000);
    let (read, write) = (1 + rng.below(5_000), 1 + rng.below(9_000));
    let limits = Limits::default()
        .low_water(rng.below(high))
        .high_water(high)
        .turn_read(read)
        .turn_write(write);
    let chance = |percent: usize| rng.below(percent + 1) as f64 / 100.0;
    let conditions = Conditions::default()
        .short_reads(chance(80))
        .short_writes(chance(80))
        .would_block(chance(60))
        .late_events(chance(50))
        .shuffled(rng.one_in(2))
        .one_shot(rng.one_in(3))
        .buffer(1 + rng.below(if rng.one_in(3) { 100 } else { 20_000 }));
    let endings = [
        Ending::Orderly,
        Ending::Reset,
        Ending::NoReceiver,
        Ending::FailedCall,
    ];
    let ending = endings[rng.below(endings.len())];
    let network = Network::new(seed);
    network.set_conditions(conditions);
    let event_loop = network.event_loop()?;
    let closes = Rc::new(RefCell::new(Vec::new()));
    let (mut chats, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let ((socket, peer), log) = (network.pair(), Rc::clone(&closes));
        let connector = Connector::adopt(socket).limits(limits);
        chats.push(connector.connect_on(&event_loop, |_| End(log))?);
        peers.push(peer);
    }
    asynchat::pipe(&chats[0], &chats[1])?;
    // What a peer sends is received by the other one.
    let mut ways = [0, 1].map(|_| Way {
        data: (0..rng.below(12)).flat_map(|_| rng.output()).collect(),
        sent: 0,
        is_finished: false,
        received: Vec::new(),
    });
    let mut outcome = Outcome::default();
    if logs {
        let lengths = ways.each_ref().map(|way| way.data.len());
        outcome.log.push(format!(
            "{ending:?}, {lengths:?}, {limits:?}, {conditions:?}"
        ));
    }
    let end_at = rng.below(60);
    let mut bytes_out = [0; 2];
    for round in 0..100_000 {
        if round == end_at {
            break_off(&rng, ending, &network, &peers);
        }
        let from = rng.below(2);
        act(&rng, &peers[from], &mut ways[from]);
        event_loop.run_once(Duration::ZERO)?;
        for (end, chat) in chats.iter().enumerate() {
            if chat.queued() > high + read {
                let queued = chat.queued();
                outcome.wrong.push(format!(
                    "memory: {queued} bytes are queued, above {high} and {read}"
                ));
            }
            // Its own turns, and what the other end sends at once.
            let sent = chat.stats().bytes_out
                - std::mem::replace(&mut bytes_out[end], chat.stats().bytes_out);
            if sent > 3 * write as u64 {
                outcome.wrong.push(format!(
                    "fairness: {sent} bytes are sent in a turn, above {write}"
                ));
            }
        }
        if !outcome.wrong.is_empty() {
            return Ok(outcome);
        }
        if ways.iter().all(|way| way.is_finished) && round > end_at {
            break;
        }
    }
    network.set_conditions(Conditions::default());
    peers.iter().for_each(|peer| peer.start_reading(usize::MAX));
    network.settle(&event_loop)?;
    for (from, way) in ways.iter_mut().enumerate() {
        way.received.extend(peers[1 - from].take_received());
        let (got, all) = (&way.received, &way.data[..way.sent]);
        if !all.starts_with(got) {
            let same = got.iter().zip(all).take_while(|(a, b)| a == b).count();
            outcome.wrong.push(format!(
                "order: the bytes from {same} on are not those that were sent"
            ));
        }
        let ended = peers[1 - from].ended();
        let is_complete = got == all && ended == Some(Ended::Finished);
        // After a reset a part may be missing, but the stream must not look complete then.
        let has_orderly_end = match ending {
            Ending::Orderly => true,
            Ending::Reset => ended == Some(Ended::Finished),
            Ending::NoReceiver | Ending::FailedCall => false,
        };
        if has_orderly_end && !is_complete {
            let (got, all) = (got.len(), all.len());
            outcome
                .wrong
                .push(format!("complete: {ended:?} after {got} of {all} bytes"));
        }
    }
    drop(peers);
    network.advance(&event_loop, Duration::from_secs(10))?;
    let (left, ended) = (network.sockets(), closes.borrow().len());
    if left > 0 || ended != 2 {
        outcome.wrong.push(format!(
            "liveness: {left} sockets are left, and {ended} ends of 2 are closed"
        ));
    }
    outcome.calls = ended as u64;
    outcome.turns = event_loop.stats().turns;
    if logs {
        outcome.log.extend(closes.borrow().iter().cloned());
    }
    Ok(outcome)
}

/// A peer sends a piece, finishes, or reads a part of what has come.
fn act(rng: &Rng, peer: &Peer, way: &mut Way) {
    match rng.below(4) {
        0 => peer.start_reading(rng.below(10_000)),
        1 => peer.start_reading(usize::MAX),
        _ if way.sent < way.data.len() => {
            let most = (way.data.len() - way.sent).min(if rng.one_in(3) { 8_000 } else { 50 });
            let end = way.sent + 1 + rng.below(most);
            peer.send(&way.data[way.sent..end]);
            way.sent = end;
        }
        _ => {
            peer.finish();
            way.is_finished = true;
        }
    }
}

fn break_off(rng: &Rng, ending: Ending, network: &Network, peers: &[Peer]) {
    let peer = &peers[rng.below(2)];
    match ending {
        Ending::Orderly => {}
        Ending::Reset => peer.reset(),
        Ending::NoReceiver => peer.shutdown_read(),
        Ending::FailedCall => {
            let kinds = [
                io::ErrorKind::ConnectionReset,
                io::ErrorKind::BrokenPipe,
                io::ErrorKind::Other,
            ];
            let call = if rng.one_in(3) {
                Call::Recv
            } else {
                Call::Send
            };
            network.fail(call, kinds[rng.below(kinds.len())]);
        }
    }
}
