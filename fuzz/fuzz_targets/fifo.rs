//! The queue of output, against a model of it.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::fifo(input));
