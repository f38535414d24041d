//! Random SOCKS input, most of it almost valid, in random segments. A model says what the proxy is to reply.
//! `PROXY_SEEDS` sets the number of runs.

use asynchat::Result;
use asynchat::sim::Ended;
use fastrand::Rng;

use crate::access::ann;
use crate::world::{World, text};

#[test]
fn random_socks_input_has_the_reply_of_the_model() -> Result {
    let count = std::env::var("PROXY_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    let mut tunnels = 0;
    for seed in 0..count.unwrap_or(400) {
        tunnels += u32::from(run(seed)?);
    }
    assert!(tunnels > 0);
    Ok(())
}

/// Returns whether there was a tunnel.
fn run(seed: u64) -> Result<bool> {
    let mut rng = Rng::with_seed(seed);
    // To check a password is slow.
    let has_users = rng.u8(0..8) == 0;
    let world = World::with(|options| {
        if has_users {
            options.logins = ann();
        }
    })?;
    let input = random_input(has_users, &mut rng);
    let client = world.client()?;
    let mut rest = &input[..];
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(rng.usize(1..=rest.len()));
        client.send(piece);
        if rng.bool() {
            world.settle()?;
        }
        rest = behind;
    }
    world.settle()?;

    let (mut replies, then) = model(&input, has_users);
    let mut received = client.take_received();
    let what = format!("seed {seed}: {input:?}\n{received:?}");
    match &then {
        Then::Waits => assert_eq!(client.ended(), None, "{what}"),
        Then::Closes => assert_eq!(client.ended(), Some(Ended::Finished), "{what}"),
        Then::Fails => {
            // The model does not know why.
            let reply = received.split_off(replies.len());
            assert!(
                matches!(reply[..], [5, 1..=8, 0, 1, 0, 0, 0, 0, 0, 0]),
                "{what}"
            );
            assert_eq!(client.ended(), Some(Ended::Finished), "{what}");
        }
        Then::Tunnel(early) => {
            replies.extend([5, 0, 0, 1]);
            // An address of the proxy.
            assert_eq!(received.len(), replies.len() + 6, "{what}");
            received.truncate(replies.len());
            let server = world.accept()?;
            world.send(&server, "hello")?;
            assert_eq!(&server.take_received(), early, "{what}");
            assert_eq!(text(&client), "hello", "{what}");
        }
    }
    assert_eq!(received, replies, "{what}");
    assert!(world.is_untouched(), "{what}");
    client.reset();
    world.settle()?;
    assert_eq!(world.network.sockets(), 1, "the listener. {what}");
    Ok(matches!(then, Then::Tunnel(_)))
}

fn random_input(has_users: bool, rng: &mut Rng) -> Vec<u8> {
    let mut input = vec![];
    let greetings: [&[u8]; 4] = [&[5, 1, 0], &[5, 1, 2], &[5, 3, 0, 1, 2], &[5, 0]];
    input.extend(one_of(&greetings, rng));
    if has_users {
        let log_ins: [&[u8]; 4] = [
            b"\x01\x03ann\x06secret",
            b"\x01\x03ann\x05wrong",
            b"\x01\x03ann\x00",
            b"\x01\x00\x06secret",
        ];
        input.extend(one_of(&log_ins, rng));
    }
    let addresses: [&[u8]; 5] = [
        b"\x03\x0bwww.example",
        b"\x01\xc0\x00\x02\x50",
        b"\x03\x0fnowhere.example",
        b"\x03\x0erebind.example",
        b"\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01",
    ];
    input.extend([5, 1, 0]);
    input.extend(one_of(&addresses, rng));
    input.extend([0, 80]);
    input.extend(b"early");
    // The first byte stays. It selects the protocol.
    while rng.u8(0..3) == 0 {
        let at = rng.usize(1..input.len());
        input[at] = if rng.bool() { rng.u8(..6) } else { rng.u8(..) };
    }
    if rng.u8(0..4) == 0 {
        input.truncate(rng.usize(1..input.len()));
    }
    input
}

/// The first one is chosen more often.
fn one_of<'a>(choices: &[&'a [u8]], rng: &mut Rng) -> &'a [u8] {
    choices[rng
        .usize(0..2 * choices.len())
        .saturating_sub(choices.len())]
}

#[derive(Debug)]
enum Then {
    /// The input is incomplete.
    Waits,
    Closes,
    /// A reply that is an error, and the end.
    Fails,
    /// This is for the server.
    Tunnel(Vec<u8>),
}

/// The replies to this input but that of the request, and what follows them.
fn model(input: &[u8], has_users: bool) -> (Vec<u8>, Then) {
    let mut replies = vec![];
    let then = serve(input, has_users, &mut replies);
    (replies, then.unwrap_or(Then::Waits))
}

/// RFC 1928 and RFC 1929. `None`: the input is incomplete.
fn serve(mut rest: &[u8], has_users: bool, replies: &mut Vec<u8>) -> Option<Then> {
    let mut take = |count: u8| rest.split_off(..usize::from(count));
    let method = if has_users { 2 } else { 0 };
    let count = take(2)?[1];
    if !take(count)?.contains(&method) {
        replies.extend([5, 255]);
        return Some(Then::Closes);
    }
    replies.extend([5, method]);
    if has_users {
        let [version, length] = *take(2)? else {
            return None;
        };
        if version != 1 {
            replies.extend([1, 1]);
            return Some(Then::Closes);
        }
        let name = take(length)?;
        let length = take(1)?[0];
        let is_right = (name, take(length)?) == (b"ann", b"secret");
        replies.extend([1, u8::from(!is_right)]);
        if !is_right {
            return Some(Then::Closes);
        }
    }
    let (kind, length) = match *take(4)? {
        [5, 1, _, 1] => (1, 4),
        [5, 1, _, 4] => (4, 16),
        [5, 1, _, 3] => (3, take(1)?[0]),
        _ => return Some(Then::Fails),
    };
    let address = take(length)?;
    let is_known = match kind {
        1 => address == [192, 0, 2, 80],
        3 => address.eq_ignore_ascii_case(b"www.example"),
        _ => false,
    };
    if take(2)? == [0, 80] && is_known {
        Some(Then::Tunnel(rest.to_vec()))
    } else {
        Some(Then::Fails)
    }
}
