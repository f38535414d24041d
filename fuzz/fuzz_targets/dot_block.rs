//! Dot blocks: encoding and decoding, and what ends a block.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::dot_block(input));
