//! CloudEvents at `POST /v1/events`, and the event that each becomes.

use axum::http::Method;
use hookwire_server::ApiLimits;
use serde_json::{Value, json};

use crate::support::{Answer, HOST, Server, Setup};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCHED: &str = "application/cloudevents-batch+json";

/// A server that takes events with many attributes.
fn roomy() -> Server {
    let setup = Setup::default();
    let limits = ApiLimits { event_bytes_max: 600, ..setup.limits };
    Server::new(Setup { limits, ..setup })
}

async fn send(server: &Server, headers: &[(&str, &str)], body: impl Into<axum::body::Body>) -> Answer {
    let headers: Vec<_> = [HOST].into_iter().chain(headers.iter().copied()).collect();
    server.call(Method::POST, "/v1/events", &headers, body).await
}

async fn structured(server: &Server, body: &str) -> Answer {
    send(server, &[("content-type", STRUCTURED)], body.to_owned()).await
}

/// The event that an accepted request became.
async fn taken(server: &Server, answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{}", answer.body);
    let id = answer.body["ids"][0].as_str().unwrap();
    server.get(&format!("/v1/events/{id}")).await.body["event"].clone()
}

#[tokio::test]
async fn a_structured_cloud_event_becomes_an_event_with_all_attributes_in_its_context() {
    let server = roomy();
    let sent = r#"{"specversion": "1.0", "id": "A-1", "source": "/dcim", "type": "dcim.site.updated",
        "subject": "berlin", "time": "2026-11-23T17:31:00Z", "retries": 3, "unset": null,
        "datacontenttype": "application/json", "data": {"id": 7, "big": 12345678901234567890.0}}"#;
    let event = taken(&server, &structured(&server, sent).await).await;
    // printf '/dcim\0A-1' | sha256sum | cut -c1-32
    let expected = r#"{"id":"ce_68ba649638eed70a96f4c5e786059013","event":"updated","object_type":"dcim.site","object_id":"berlin","timestamp":"2026-11-23T17:31:00Z","username":null,"request_id":null,"data":{"id":7,"big":12345678901234567890.0},"context":{"specversion":"1.0","id":"A-1","source":"/dcim","type":"dcim.site.updated","subject":"berlin","time":"2026-11-23T17:31:00Z","retries":3,"datacontenttype":"application/json"}}"#;
    assert_eq!(event.to_string(), expected);
    // The same source and id are the same event, whatever else differs.
    let again = structured(&server, &sent.replace("berlin", "bonn")).await;
    assert_eq!(again.body["duplicates"], again.body["ids"]);
    let other = structured(&server, &sent.replace("/dcim", "/ipam")).await;
    assert_eq!(other.body["duplicates"], json!([]));
}

#[tokio::test]
async fn data_that_is_no_object_goes_to_data_value() {
    for (members, data) in [
        (r#""data": {"a": 1.0}"#, r#"{"a":1.0}"#),
        (r#""data": [1, 2]"#, r#"{"value":[1,2]}"#),
        (r#""data": "text""#, r#"{"value":"text"}"#),
        (r#""data": null"#, r#"{"value":null}"#),
        (r#""datacontenttype": "text/xml", "data": "<a/>""#, r#"{"value":"<a/>"}"#),
        (r#""subject": "s""#, "{}"),
        // {"a": 1}
        (r#""data_base64": "eyJhIjogMX0=""#, r#"{"a":1}"#),
        (r#""data": {"a": 1}, "data_base64": null"#, r#"{"a":1}"#),
        (r#""datacontenttype": "text/plain", "data_base64": "aGk=""#, r#"{"value":"hi"}"#),
        (
            r#""datacontenttype": "image/png", "data_base64": "iVBORw==""#,
            r#"{"value":"iVBORw==","encoding":"base64"}"#,
        ),
    ] {
        let server = Server::open();
        let sent = format!(r#"{{"specversion":"1.0","id":"1","source":"/","type":"a.b.c",{members}}}"#);
        let event = taken(&server, &structured(&server, &sent).await).await;
        assert_eq!(event["data"].to_string(), data, "{members}");
    }
}

#[tokio::test]
async fn without_a_subject_the_object_is_that_of_the_data() {
    let server = Server::open();
    let sent =
        r#"{"specversion":"1.0","id":"1","source":"/","type":"com.example.site.moved","data":{"id":7}}"#;
    let event = taken(&server, &structured(&server, sent).await).await;
    assert_eq!(
        (&event["object_type"], &event["event"], &event["object_id"]),
        (&json!("com.example.site"), &json!("moved"), &json!("7"))
    );
}

#[tokio::test]
async fn a_batch_is_taken_whole_or_refused_whole() {
    let server = Server::open();
    let one = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/", "type": "a.b.c"});
    let batch = |items: Value| send(&server, &[("content-type", BATCHED)], items.to_string());
    assert_eq!(batch(json!([])).await.body, json!({"ids": [], "duplicates": []}));
    assert_eq!(
        batch(json!([one("1"), {"id": "2", "type": "a"}, 3])).await.pointers(400),
        ["/1/specversion", "/1/source", "/1/type", "/2",]
    );
    assert_eq!(server.queued().await, 0);
    let answer = batch(json!([one("1"), one("2"), one("1")])).await;
    assert_eq!((answer.status, answer.body["ids"].as_array().unwrap().len()), (202, 3));
    assert_eq!(server.queued().await, 2);
    assert_eq!(batch(one("1")).await.pointers(400), [""], "a batch is an array");
}

#[tokio::test]
async fn binary_mode_reads_attributes_from_headers_and_data_from_the_body() {
    let server = roomy();
    let attributes = [
        ("ce-specversion", "1.0"),
        ("CE-ID", "A-1"),
        ("ce-source", "/dcim"),
        ("ce-type", "dcim.site.updated"),
        ("ce-subject", "K%C3%B6ln%20%22Mitte%22"),
        ("ce-comexample", "\"quoted \\\"value\\\"\""),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let event = taken(&server, &send(&server, &attributes, r#"{"id": 7, "n": 1.0}"#).await).await;
    assert_eq!(event["id"], "ce_68ba649638eed70a96f4c5e786059013", "as in structured mode");
    assert_eq!(event["data"].to_string(), r#"{"id":7,"n":1.0}"#);
    assert_eq!(event["object_id"], "Köln \"Mitte\"");
    let context = json!({
        "specversion": "1.0", "id": "A-1", "source": "/dcim", "type": "dcim.site.updated",
        "subject": "Köln \"Mitte\"", "comexample": "quoted \"value\"",
        "datacontenttype": "application/json; charset=utf-8",
    });
    assert_eq!(event["context"], context);
}

#[tokio::test]
async fn binary_mode_takes_any_kind_of_data() {
    for (content_type, body, data) in [
        ("application/vnd.example+json", &b"[1]"[..], json!({"value": [1]})),
        ("application/xml", b"<a/>", json!({"value": "<a/>"})),
        ("image/png", b"\x89PNG", json!({"value": "iVBORw==", "encoding": "base64"})),
        ("application/json", b"", json!({})),
        ("application/x-ndjson", b"{}\n{}", json!({"value": "{}\n{}"})),
    ] {
        let server = Server::open();
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/"),
            ("ce-type", "a.b.c"),
            ("content-type", content_type),
        ];
        let event = taken(&server, &send(&server, &headers, body).await).await;
        assert_eq!(event["data"], data, "{content_type}");
    }
}

#[tokio::test]
async fn a_bad_cloud_event_is_refused_with_its_places() {
    let server = Server::open();
    let mut told = Vec::new();
    let tell = |what: &str, answer: &Answer| {
        answer.pointers(400);
        let errors = answer.body["errors"].as_array().unwrap().iter();
        let errors = errors.map(|error| {
            format!("\n    {}: {}", error["pointer"].as_str().unwrap(), error["message"].as_str().unwrap())
        });
        format!("{what}{}", errors.collect::<String>())
    };
    for body in [
        r#"{}"#,
        r#"{"specversion":"0.3","id":"","source":7,"type":"created"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"site.created","time":"today"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"dcim.site.","subject":["x"]}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"a.b.c","time":"today"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"a.b.c","data":1,"data_base64":"AA=="}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"a.b.c","data_base64":"?"}"#,
        r#"{"specversion":"1.0","id":"1","id":"2","source":"/","type":"a.b.c"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"a.b.c","dataschema":"","datacontenttype":1}"#,
        r#"{"specversion":"1.0","id":"1","source":"/","type":"a.b.c","extension":"\ud800"}"#,
        r#"[]"#,
        r#"{"#,
    ] {
        told.push(tell(body, &structured(&server, body).await));
    }
    for (headers, body) in [
        (vec![("ce-id", "1")], "{}"),
        (vec![("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/"), ("ce-type", "a.b.c")], "{"),
        (vec![("ce-specversion", "1.0"), ("ce-id", "%C0%A0"), ("ce-source", "/"), ("ce-type", "a.b.c")], ""),
        (vec![("ce-id", "1"), ("ce-id", "2")], ""),
    ] {
        let what = headers.iter().map(|(name, value)| format!("{name}: {value} ")).collect::<String>();
        let headers: Vec<_> = headers.into_iter().chain([("content-type", "application/json")]).collect();
        told.push(tell(&what, &send(&server, &headers, body).await));
    }
    insta::with_settings!({omit_expression => true}, { insta::assert_snapshot!(told.join("\n")); });
    assert_eq!(server.queued().await, 0);
}

#[tokio::test]
async fn other_formats_of_cloud_events_and_large_ones_are_refused() {
    let server = Server::open();
    for content_type in ["application/cloudevents+avro", "application/cloudevents-batch+protobuf"] {
        assert!(send(&server, &[("content-type", content_type)], "x").await.pointers(415).is_empty());
    }
    let large = "x".repeat(301);
    let headers = [("ce-id", "1"), ("content-type", "application/octet-stream")];
    assert_eq!(send(&server, &headers, large.clone()).await.pointers(413), ["/data"]);
    assert_eq!(structured(&server, &format!(r#"{{"data":"{large}"}}"#)).await.pointers(413), [""]);
    // Small as it was sent, and large as it would be kept.
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/"),
        ("ce-type", "a.b.c"),
        ("content-type", "application/octet-stream"),
    ];
    assert_eq!(send(&server, &headers, vec![0xff; 200]).await.pointers(413), [""]);
}
