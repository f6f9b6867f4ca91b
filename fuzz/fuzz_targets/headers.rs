//! libFuzzer on `Target::Headers`.
#![no_main]

use hookwire_fuzz::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Headers.run(input));
