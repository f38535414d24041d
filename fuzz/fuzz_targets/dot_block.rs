//! Dot blocks: there and back, and what ends one.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::dot_block(input));
