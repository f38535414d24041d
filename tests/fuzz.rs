//! The fuzz targets of the library without a fuzzer: see fuzz/bounded.rs. The target of the `nntp`
//! example is in examples/tests/nntp_fuzz.rs.

// Public in the package of the fuzzers, private modules here.
#![allow(unreachable_pub)]

#[path = "../fuzz/bounded.rs"]
mod bounded;
#[path = "../fuzz/src/choices.rs"]
mod choices;
#[path = "../fuzz/src/dot_block.rs"]
mod dot_block;
#[path = "../fuzz/src/fifo.rs"]
mod fifo;
#[path = "fifo/model/mod.rs"]
mod fifo_model;
#[path = "common/naive.rs"]
mod naive;
#[cfg(feature = "proxy-protocol")]
#[path = "../fuzz/src/proxy_header.rs"]
mod proxy_header;
#[path = "../fuzz/src/splitter.rs"]
mod splitter;
#[cfg(feature = "tls")]
#[path = "../fuzz/src/tls_stage/mod.rs"]
mod tls_stage;

use bounded::fuzz;

#[test]
fn splitter() {
    fuzz("splitter", splitter::splitter);
}

#[test]
fn fifo() {
    fuzz("fifo", fifo::fifo);
}

#[test]
fn dot_block() {
    fuzz("dot_block", dot_block::dot_block);
}

#[cfg(feature = "proxy-protocol")]
#[test]
fn proxy_header() {
    fuzz("proxy_header", proxy_header::proxy_header);
}

#[cfg(feature = "tls")]
#[test]
fn tls_stage() {
    fuzz("tls_stage", tls_stage::tls_stage);
}

/// SMTP smuggling attacks (CVE-2023-51764 and similar) consist of these five bytes.
#[test]
fn every_short_dot_block() {
    const ALPHABET: &[u8] = b"\r\n.a\0";
    const LONGEST: u32 = if cfg!(miri) {
        2
    } else if cfg!(debug_assertions) {
        5
    } else {
        7
    };
    for len in 0..=LONGEST {
        for number in 0..ALPHABET.len().pow(len) {
            let digits = (0..len).map(|i| number / ALPHABET.len().pow(i) % ALPHABET.len());
            let text: Vec<u8> = digits.map(|digit| ALPHABET[digit]).collect();
            dot_block::stuffed(&text, &[1], 3);
            dot_block::smuggled(&text, &[1]);
            // After a line, and followed by more input.
            dot_block::smuggled(&[b"a\r\n", &text[..], b"b\r\n.\r\n"].concat(), &[2]);
        }
    }
}
