//! Reading events from files of every form, good and bad.

use super::*;

const MAX: u64 = 120;
const ONE: &str = r#"{"event":"created","object_type":"a.b","data":{"id":1}}"#;
const TWO: &str = r#"{"event":"deleted","object_type":"a.b","id":"two","data":{}}"#;

/// The ids of the events in a file of that name, or what is wrong with it.
fn read(name: &str, text: impl AsRef<[u8]>) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let mut ids = Vec::new();
    let input = Input::open(&path, MAX).unwrap();
    let read = input.read(MAX, NewIds::Repeatable, "", |event, _| {
        ids.push(event.id.to_string());
        Ok(())
    });
    match read {
        Ok(events) => {
            assert_eq!(events, ids.len() as u64);
            Ok(ids)
        }
        Err(failure) => {
            assert_eq!(failure.exit(), Exit::Data);
            let message = failure.to_string();
            Err(message.split_once("holds ").unwrap().1.to_owned())
        }
    }
}

fn pretty(text: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
}

#[test]
fn one_event_an_array_and_lines_are_read() {
    let long = format!("{}{ONE}", " ".repeat(3 * READ));
    for (name, text, count) in [
        ("e.json", ONE.to_owned(), 1),
        ("e.json", format!("\u{feff}{ONE}\n"), 1),
        ("e.json", pretty(ONE), 1),
        ("e.json", format!("[{ONE},\n {TWO}]\n"), 2),
        ("e.json", "\u{feff} [ ]".to_owned(), 0),
        ("e.json", format!("{ONE}\r\n\r\n{TWO}\r\n{ONE}"), 3),
        ("e.json", String::new(), 0),
        ("e.json", " \n\t".to_owned(), 0),
        ("e.ndjson", format!("{ONE}\n"), 1),
        ("e.ndjson", long.replace(' ', "\n"), 1),
    ] {
        assert_eq!(read(name, &text).map(|ids| ids.len()), Ok(count), "{name}: {text:?}");
    }
}

#[test]
fn what_is_bad_is_told_with_its_place() {
    let large = ONE.replace("1}", &format!("\"{}\"}}", "x".repeat(100)));
    let huge = ONE.replace("1}", &format!("\"{}\"}}", "x".repeat(3 * READ)));
    let shown = [
        ("no JSON", "hello".to_owned()),
        ("an unknown member", ONE.replace("data", "dta")),
        ("too large alone", large.clone()),
        ("in the middle of lines", format!("{ONE}\n{{\"event\": \n\n{TWO}\n{large}\n{huge}\nx")),
        ("in the middle of an array", format!("[{ONE}, {{}}, 3, {large}, {TWO}]")),
        ("far too large in an array", format!("[{ONE}, {huge}, {{}}]")),
        ("an array that breaks off", format!("[{ONE},\n")),
        ("more after an array", format!("[{ONE}] {TWO}")),
        ("many", format!("{ONE}\n{}", "{}\n".repeat(100))),
    ];
    let shown = shown.map(|(what, text)| format!("{what}: {}", read("e.json", text).unwrap_err()));
    insta::assert_snapshot!(shown.join("\n\n"));
    assert!(read("e.json", b"{\"event\": \"\xff\"}").unwrap_err().contains("not UTF-8 from byte 12 on"));
}

#[test]
fn a_repeatable_id_follows_from_line_and_bytes() {
    let ids = read("e.ndjson", format!("{ONE}\n{TWO}\n{ONE}\n")).unwrap();
    assert_eq!(ids[1], "two", "an id of its own is kept");
    assert_ne!(ids[0], ids[2], "the same bytes in two lines are two events");
    let folder = tempfile::tempdir().unwrap();
    let ids_of = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{ONE}\n{ONE}\n")).unwrap();
        let mut ids = Vec::new();
        let input = Input::open(&path, MAX).unwrap();
        for _ in 0..2 {
            input
                .read(MAX, NewIds::Repeatable, "", |event, _| {
                    ids.push(event.id);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(ids[..2], ids[2..], "read twice, the ids are the same");
        ids
    };
    assert_eq!(ids_of("a"), ids_of("a"));
    assert_ne!(ids_of("a"), ids_of("b"), "another file has other events");
}

#[test]
fn a_line_that_was_added_meanwhile_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("e.ndjson");
    std::fs::write(&path, format!("{ONE}\n")).unwrap();
    let input = Input::open(&path, MAX).unwrap();
    std::fs::write(&path, format!("{ONE}\n{ONE}\n")).unwrap();
    assert_eq!(input.read(MAX, NewIds::Unique, "", |_, _| Ok(())).unwrap(), 1);
}
