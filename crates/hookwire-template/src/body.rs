//! The body of a webhook that has no template for it, in NetBox's form.

use hookwire_jinja::{json_dumps_into, json_dumps_text};
use hookwire_model::{Member, TemplateContext};

/// The bytes that NetBox sends: Python's `json.dumps` of the context, without `model`.
pub(crate) fn netbox(context: &TemplateContext) -> String {
    // Escapes and blanks make it somewhat longer than the data is.
    let mut out = String::with_capacity(context.data().as_str().len() * 5 / 4 + 512);
    for (name, member) in context.members().filter(|(name, _)| *name != "model") {
        out.push_str(if out.is_empty() { "{\"" } else { ", \"" });
        out.push_str(name);
        out.push_str("\": ");
        match member {
            Member::Text(None) => out.push_str("null"),
            Member::Text(Some(text)) => json_dumps_text(text, &mut out),
            Member::Document(json) => json_dumps_into(json.root(), &mut out),
        }
    }
    out.push('}');
    out
}
