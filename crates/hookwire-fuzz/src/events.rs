//! Events: any text is read as serde_json reads it, and whatever was accepted comes out of a store as it went in.

use std::sync::Arc;

use hookwire_json::{Json, JsonError};
use hookwire_model::{Event, EventDefaults, EventId, TemplateContext, Timestamp};
use serde_json::{Map, Value, json};

pub(crate) fn run(text: &str) {
    match (Json::parse_nested(text, NESTED_MAX), serde_json::from_str::<Value>(text)) {
        (Ok(json), Ok(value)) => {
            assert_eq!(json.root().to_value(), value, "both read the same");
            assert_eq!(Json::from(&value).root().to_value(), value, "what is written reads back");
        }
        (Err(_), Err(_)) | (Err(JsonError::TooDeep), Ok(_)) => {}
        (ours, theirs) => panic!("{ours:?}, but {theirs:?}"),
    }
    let id = EventId::new("fuzz").expect("a sound id");
    let mut new_id = || id.clone();
    let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
    let event = match Event::parse(text, &mut defaults) {
        Ok(event) => event,
        Err(error) => return assert!(!error.problems.is_empty(), "a refusal says why"),
    };
    let payload = event.to_payload();
    assert_eq!(Event::from_payload(payload.as_bytes()).as_ref(), Ok(&event), "{payload}");
    let action_data = Map::from_iter([("added".to_owned(), json!([text])), ("id".to_owned(), json!(null))]);
    for action_data in [Map::new(), action_data] {
        let context = TemplateContext::new(Arc::new(event.clone()), &action_data);
        let body = serde_json::from_str::<Value>(&context.to_json()).expect("the default body is JSON");
        assert_eq!(context.root().root().to_value(), body, "templates see what is sent by default");
    }
}

/// Beyond 127 serde_json gives up.
const NESTED_MAX: usize = 120;
