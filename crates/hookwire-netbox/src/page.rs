//! The answer of NetBox's REST API to a list: the objects of one page, and where the next one is.

use serde_json::Value;

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The objects, as NetBox sent them.
    pub items: Vec<Value>,
    /// The URL of the next page, as NetBox sent it.
    pub next: Option<String>,
}

/// Why a text is no list of objects.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// It is a page for people.
    #[error("this is HTML, not JSON; the REST API is below /api/, such as /api/extras/webhooks/")]
    Html,
    /// It is no JSON.
    #[error("this is not valid JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is NetBox's way of saying no.
    #[error("NetBox refused: {0}")]
    Refused(String),
    /// It is one object.
    #[error(
        "this is one object; write it as a list, [{{..}}], or take the answer to the list, such as /api/extras/webhooks/"
    )]
    OneObject,
    /// It is something else.
    #[error(
        "this is neither a list of objects nor an object with `results`, as NetBox answers /api/extras/webhooks/"
    )]
    Shape,
}

/// Reads a list response (`{"count": .., "next": .., "results": [..]}`) or a plain array of objects.
///
/// # Errors
/// [`PageError`] if the text is neither.
pub fn read_page(text: &str) -> Result<Page, PageError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('<') {
        return Err(PageError::Html);
    }
    let (items, next) = match serde_json::from_str(text).map_err(PageError::Syntax)? {
        Value::Array(items) => (items, None),
        Value::Object(mut members) => match (members.remove("results"), members.get("detail")) {
            (Some(Value::Array(items)), _) => {
                let next = members.get("next").and_then(Value::as_str).map(str::to_owned);
                (items, next)
            }
            (None, Some(Value::String(detail))) => return Err(PageError::Refused(detail.clone())),
            (None, _) if members.contains_key("name") => return Err(PageError::OneObject),
            _ => return Err(PageError::Shape),
        },
        _ => return Err(PageError::Shape),
    };
    if items.iter().all(Value::is_object) { Ok(Page { items, next }) } else { Err(PageError::Shape) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_come_in_two_shapes() {
        let item = json!({"id": 1, "name": "a"});
        for (text, next) in [
            (r#"[{"id": 1, "name": "a"}]"#, None),
            (r#"{"count": 1, "next": null, "previous": null, "results": [{"id": 1, "name": "a"}]}"#, None),
            (
                "\u{feff} {\"next\": \"http://n/?offset=1\", \"results\": [{\"id\": 1, \"name\": \"a\"}]}",
                Some("http://n/?offset=1"),
            ),
        ] {
            let page = read_page(text).unwrap();
            assert_eq!((page.items, page.next.as_deref()), (vec![item.clone()], next), "{text}");
        }
    }

    #[test]
    fn what_is_no_list_says_what_it_is() {
        for (text, said) in [
            ("<!DOCTYPE html><html>", "HTML"),
            ("{\"detail\": \"Invalid v1 token\"}", "NetBox refused: Invalid v1 token"),
            ("{\"id\": 1, \"name\": \"a\"}", "one object"),
            ("", "not valid JSON"),
            ("[1]", "neither"),
            ("{\"results\": 5}", "neither"),
            ("null", "neither"),
        ] {
            let error = read_page(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
