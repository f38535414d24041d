//! Paths and commands that a peer sends to the example `files`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::files(input));
