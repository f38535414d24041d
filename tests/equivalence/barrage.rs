//! Commands that a client pipelines.

use fastrand::Rng;

/// About forty commands, and QUIT.
pub(crate) fn barrage(seed: u64) -> Vec<u8> {
    let mut random = Rng::with_seed(seed);
    let mut out = Vec::new();
    for _ in 0..random.usize(30..50) {
        command(&mut random, &mut out);
    }
    out.extend_from_slice(b"QUIT 2000\r\n");
    out
}

fn command(random: &mut Rng, out: &mut Vec<u8>) {
    let size = match random.u8(..8) {
        0 => 0,
        1 => random.usize(1..2000),
        _ => random.usize(1..40),
    };
    match random.u8(..11) {
        0 => out.extend_from_slice(b"\r\n"),
        1 => {
            let text = some(random, size, b"ab \r");
            line(out, "ECHO ", &[&text[..], b"."].concat());
        }
        2 => {
            line(out, "COUNT ", (size + 1).to_string().as_bytes());
            out.extend(some(random, size + 1, b"a\r\n."));
        }
        3 => {
            line(out, "BODY ", (size + 1).to_string().as_bytes());
            out.extend(some(random, size + 1, b"a\r\n."));
            line(out, "", b"trailer");
        }
        4 => {
            let needle: &[u8] = random
                .choice([b";" as &[u8], b"qqq", b"xqxqy"])
                .expect("three");
            line(out, "UNTIL ", needle);
            // A run of q has at most two bytes, so the needle is found where it was put.
            for _ in 0..size {
                out.extend_from_slice(
                    random
                        .choice([b"a\r\n" as &[u8], b"qqa", b"xqa"])
                        .expect("three"),
                );
            }
            out.extend_from_slice(needle);
        }
        5 => {
            line(out, "BLOCK", b"");
            for _ in 0..=size {
                let length = random.usize(0..10);
                let text = some(random, length, b"ab.");
                let dot: &[u8] = if text.starts_with(b".") { b"." } else { b"" };
                line(out, "", &[dot, &text[..]].concat());
            }
            line(out, "", b".");
        }
        kind => {
            let verbs = ["PUSH ", "SIMPLE ", "MIX ", "HOOKED ", "COMPOSITE "];
            let verb = verbs[usize::from(kind) % verbs.len()];
            line(out, verb, size.to_string().as_bytes());
        }
    }
}

fn line(out: &mut Vec<u8>, start: &str, rest: &[u8]) {
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

fn some(random: &mut Rng, length: usize, of: &[u8]) -> Vec<u8> {
    (0..length).map(|_| of[random.usize(..of.len())]).collect()
}
