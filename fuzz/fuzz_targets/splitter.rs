//! Records out of bytes, against a reader that is obviously right.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::splitter(input));
