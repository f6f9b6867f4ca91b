//! libFuzzer on `Target::Import`.
#![no_main]

use hookwire_fuzz::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Import.run(input));
