//! The memory backend passes the suite, and the suite leaves nothing out.

use std::collections::BTreeSet;

use hookwire_queue::conformance::MemoryTestStore;

hookwire_queue::conformance!(MemoryTestStore::new());

/// The cases that the macro runs.
fn cases_run() -> BTreeSet<&'static str> {
    let source = include_str!("../src/conformance.rs");
    let list = source.split_once("@each $store;\n").unwrap().1.split_once(");").unwrap().0;
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_case_is_run() {
    let source =
        concat!(include_str!("../src/conformance/cases.rs"), include_str!("../src/conformance/model.rs"));
    let cases = source.lines().filter_map(|line| line.strip_prefix("pub async fn ")?.split('<').next());
    assert_eq!(cases.collect::<BTreeSet<_>>(), cases_run());
}

#[test]
fn every_sentence_of_the_contract_has_a_case() {
    let contract = include_str!("../src/lib.rs");
    let sentences: Vec<String> = contract
        .lines()
        .filter_map(|line| line.strip_prefix("//! - ")?.split_once(". "))
        .map(|(number, _)| number.to_lowercase())
        .filter(|number| number.len() == 2 && number.as_bytes()[1].is_ascii_digit())
        .collect();
    assert!(sentences.len() > 30, "{sentences:?}");
    for sentence in sentences {
        let prefix = format!("{sentence}_");
        assert!(cases_run().iter().any(|case| case.starts_with(&prefix)), "no case for {sentence}");
    }
}
