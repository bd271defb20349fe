#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| transfer_engine::hostile::heads(bytes));
