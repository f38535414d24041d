//! Commands that a peer sends to the `nntp` example.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::nntp_command(input));
