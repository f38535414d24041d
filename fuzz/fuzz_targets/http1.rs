//! Messages of HTTP/1.1 that a peer sends to the examples `files` and `proxy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::http1(input));
