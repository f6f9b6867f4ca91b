//! The description of the API. Every answer in these tests is held against it; here it is held against the router.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Answer, HOST, Server};

/// The description, with every object closed: a member of an answer that it does not name is a mistake here, though
/// clients should expect more to come.
pub(crate) struct Description(Value);

impl Description {
    /// The description as a server without tokens gives it.
    pub(crate) async fn get() -> &'static Self {
        static DESCRIPTION: OnceLock<Description> = OnceLock::new();
        if DESCRIPTION.get().is_none() {
            let request = Request::get("/v1/openapi.json").header(HOST.0, HOST.1);
            let router = Server::open().router;
            let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let mut description: Value = serde_json::from_slice(&bytes).unwrap();
            for (_, schema) in description["components"]["schemas"].as_object_mut().unwrap() {
                if schema.get("properties").is_some() {
                    schema["additionalProperties"] = json!(false);
                }
            }
            let _ = DESCRIPTION.set(Description(description));
        }
        DESCRIPTION.get().unwrap()
    }

    /// The operation of a request: that of the path it fits best.
    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let mut pieces = template.split('/').zip(path.split('/'));
            template.split('/').count() == path.split('/').count()
                && pieces.all(|(template, piece)| template == piece || template.starts_with('{'))
        };
        let mut templates: Vec<_> =
            self.0["paths"].as_object().unwrap().keys().filter(|path| fits(path)).collect();
        templates.sort_by_key(|template| template.contains('{'));
        self.0["paths"][*templates.first()?].get(method.as_str().to_ascii_lowercase())
    }

    /// Checks that an answer is one that the description has.
    pub(crate) fn check(&self, method: &Method, path: &str, answer: &Answer) {
        let what = format!("{method} {path}: {} {}", answer.status, answer.body);
        let Some(operation) = self.operation(method, path) else {
            assert!([401, 403, 404, 405].contains(&answer.status), "not described: {what}");
            return;
        };
        let mut response = &operation["responses"][answer.status.to_string()];
        // A token or its origin is told before anything else is looked at.
        if let Some(name) = response["$ref"].as_str() {
            response = self.0.pointer(name.strip_prefix('#').unwrap()).unwrap();
        }
        assert!(response.is_object(), "this status is not described: {what}");
        let content_type = answer.header("content-type").unwrap().split(';').next().unwrap();
        let content = &response["content"][content_type];
        assert!(content.is_object(), "{content_type} is not described: {what}");
        if content_type.ends_with("json") {
            self.validate(&content["schema"], &answer.body, &what);
        }
        let retry_after = answer.header("retry-after").is_some();
        assert_eq!(response["headers"].get("retry-after").is_some(), retry_after, "{what}");
    }

    fn validate(&self, schema: &Value, value: &Value, what: &str) {
        let mut schema = schema.clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{what}\nis not as described: {errors:?}");
    }

    /// Every method and path.
    fn operations(&self) -> BTreeSet<(String, String)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.to_ascii_uppercase(), path.clone()))
        });
        operations.collect()
    }
}

#[tokio::test]
async fn the_description_and_its_examples_are_sound() {
    let server = Server::open();
    let answer = server.get("/v1/openapi.json").await;
    assert_eq!(answer.body["openapi"], "3.1.0");
    assert_eq!(answer.body["info"]["version"], env!("CARGO_PKG_VERSION"));
    let description = Description::get().await;
    let mut ids = BTreeSet::new();
    for (method, path) in description.operations() {
        let operation = &description.0["paths"][&path][method.to_ascii_lowercase()];
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}: its name is there twice");
        let bodies = operation["responses"].as_object().unwrap().values().chain([&operation["requestBody"]]);
        for (media_type, content) in bodies.filter_map(|body| body["content"].as_object()).flatten() {
            if media_type.ends_with("json")
                && let Some(example) = content.get("example")
            {
                description.validate(&content["schema"], example, &format!("the example of {method} {path}"));
            }
        }
    }
    for (name, schema) in description.0["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            description.validate(schema, example, &format!("the example of {name}"));
        }
    }
}

/// The keys of an object, or of nothing.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

#[tokio::test]
async fn the_operations_are_these() {
    let description = Description::get().await;
    let mut text = String::new();
    for (method, path) in description.operations() {
        let operation = &description.0["paths"][&path][method.to_ascii_lowercase()];
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters: Vec<_> = parameters.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        text += &format!("{method} {path}: {}\n", operation["summary"].as_str().unwrap());
        for (what, names) in [
            ("parameters", parameters),
            ("body", keys(&operation["requestBody"]["content"])),
            ("answers", keys(&operation["responses"])),
        ] {
            if !names.is_empty() {
                text += &format!("    {what}: {}\n", names.join(", "));
            }
        }
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(text); });
}
