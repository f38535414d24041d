//! PROXY headers, compared with a naive parser.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::proxy_header(input));
