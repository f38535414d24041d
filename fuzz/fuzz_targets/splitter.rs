//! The splitter, compared with a naive implementation.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::splitter(input));
