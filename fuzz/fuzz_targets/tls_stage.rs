//! A TLS stage with hostile peers.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| asynchat_fuzz::tls_stage(input));
