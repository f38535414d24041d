//! The output queue, compared with a model.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::fifo(input));
