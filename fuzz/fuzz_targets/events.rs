//! libFuzzer on `Target::Events`.
#![no_main]

use hookwire_fuzz::Target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| Target::Events.run(input));
