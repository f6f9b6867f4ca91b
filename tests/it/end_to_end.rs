//! An event goes in by HTTP, and the request that a definition describes comes out; what happened can be seen.

use hookwire_model::Secret;
use hookwire_policy::verify_netbox;
use hookwire_testkit::{Answer, Received, ScriptedEndpoint, eventually};
use serde_json::{Value, json};

use crate::support::{Folder, Server, members};

/// The address of the page's example: an IP address that was created.
fn ip_address(address: &str, status: &str) -> String {
    json!({
        "event": "created",
        "object_type": "ipam.ipaddress",
        "timestamp": "2026-03-05 10:22:44+00:00",
        "username": "jstretch",
        "request_id": "17af32f0-852a-46ca-a7d4-33ecd0c13de6",
        "data": {"id": 7, "address": address, "status": {"value": status}},
        "snapshots": {"prechange": null, "postchange": {"address": address}},
    })
    .to_string()
}

/// One webhook and the rule that names it, for every event about IP addresses.
fn one_webhook(endpoint: &ScriptedEndpoint, more: &str) -> Folder {
    Folder::with(&format!(
        r#"
        [[webhooks]]
        name = "target"
        url = "{}"
        {more}
        [[event_rules]]
        name = "all"
        object_types = ["ipam.*"]
        event_types = ["*"]
        webhooks = ["target"]
        "#,
        endpoint.url("/hook"),
    ))
}

/// The one request that comes of one event.
async fn sent(more: &str, event: &str) -> Received {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = one_webhook(&endpoint, more);
    let server = Server::start(&folder).await;
    server.publish(event).await;
    let received = endpoint.wait_for(1).await.remove(0);
    assert_eq!(server.program.terminate().await.code(), 0);
    received
}

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap_or_else(|error| panic!("{error} in {}", received.text()))
}

#[tokio::test]
async fn p1_p2_only_what_a_rule_and_its_condition_match_is_sent() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::with(&format!(
        r#"
        [[webhooks]]
        name = "target"
        url = "{}"
        body_template = '{{"got": {{{{ data.address }}}}}}'
        [[event_rules]]
        name = "active"
        object_types = ["ipam.ipaddress"]
        event_types = ["created"]
        conditions = {{ attr = "status.value", value = "active" }}
        webhooks = ["target"]
        "#,
        endpoint.url("/hook"),
    ));
    let server = Server::start(&folder).await;
    let other_type = ip_address("2", "active").replace("ipam.ipaddress", "ipam.prefix");
    let other_event = ip_address("3", "active").replace("created", "deleted");
    let unmatched = [ip_address("1", "reserved"), other_type, other_event];
    let mut ids = server.publish(&format!("[{}]", unmatched.join(","))).await;
    ids.extend(server.publish(&ip_address("192.0.2.1/24", "active")).await);
    let matched = ids.pop().unwrap();
    let delivered = server.deliveries("delivered", 1).await;
    assert_eq!(delivered[0]["event_id"], matched);
    for id in ids {
        // An event that no rule wants ends as one that was looked at, without a delivery.
        eventually("the fan-out of an event that no rule wants", async || {
            let (status, event) = server.get(&format!("/v1/events/{id}")).await;
            assert_ne!(event["deliveries"].as_array().map_or(0, Vec::len), 1, "{event}");
            (status == 404 || event["state"] == "fanned_out").then_some(())
        })
        .await;
    }
    let received = endpoint.received();
    assert_eq!(received.len(), 1);
    assert_eq!(body(&received[0]), json!({"got": "192.0.2.1/24"}));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p3_a_monitoring_system_hears_when_a_device_becomes_active_and_when_it_stops_being_so() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let url = endpoint.url("");
    let folder = Folder::with(&format!(
        r#"
        [[webhooks]]
        name = "watch"
        url = "{url}/watch"
        body_template = '{{"device": "{{{{data.name}}}}", "watch": true}}'
        [[webhooks]]
        name = "forget"
        url = "{url}/forget"
        body_template = '{{"device": "{{{{data.name}}}}", "watch": false}}'
        [[event_rules]]
        name = "became-active"
        object_types = ["dcim.device"]
        event_types = ["updated"]
        conditions = {{ attr = "status", op = "changed_to", value = "active" }}
        webhooks = ["watch"]
        [[event_rules]]
        name = "stopped-being-active"
        object_types = ["dcim.device"]
        event_types = ["updated"]
        conditions = {{ attr = "status", op = "changed_from", value = "active" }}
        webhooks = ["forget"]
        "#,
    ));
    let server = Server::start(&folder).await;
    // Planned, active, still active with another name, failed, and back to planned.
    let states = [
        ("edge", "planned"),
        ("edge", "active"),
        ("edge-1", "active"),
        ("edge-1", "failed"),
        ("edge-1", "planned"),
    ];
    for (number, pair) in states.windows(2).enumerate() {
        let snapshot = |(name, status): (&str, &str)| json!({"name": name, "status": status});
        let (name, status) = pair[1];
        let event = json!({
            "event": "updated", "object_type": "dcim.device", "id": format!("change-{number}"),
            "data": {"id": 3, "name": name, "status": {"value": status}},
            "snapshots": {"prechange": snapshot(pair[0]), "postchange": snapshot(pair[1])},
        });
        server.publish(&event.to_string()).await;
    }
    server.deliveries("delivered", 2).await;
    assert_eq!(server.program.terminate().await.code(), 0);
    let mut told: Vec<_> = endpoint
        .received()
        .iter()
        .map(|request| (request.target.clone(), body(request)["watch"].clone()))
        .collect();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(told, [("/forget".to_owned(), json!(false)), ("/watch".to_owned(), json!(true))]);
}

#[tokio::test]
async fn p9_without_a_template_the_body_is_the_context() {
    let received = sent("", &ip_address("192.0.2.1/24", "active")).await;
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/hook"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("webhook-attempt"), Some("1"));
    assert!(received.header("webhook-id").unwrap().starts_with("dlv_"));
    assert!(received.header("user-agent").unwrap().starts_with("hookwire/"));
    // Byte for byte: the members, their order, and the timestamp as it was written.
    assert_eq!(
        received.text(),
        concat!(
            r#"{"event":"created","timestamp":"2026-03-05 10:22:44+00:00","object_type":"ipam.ipaddress","#,
            r#""model":"ipaddress","username":"jstretch","request_id":"17af32f0-852a-46ca-a7d4-33ecd0c13de6","#,
            r#""data":{"id":7,"address":"192.0.2.1/24","status":{"value":"active"}},"#,
            r#""snapshots":{"prechange":null,"postchange":{"address":"192.0.2.1/24"}}}"#
        )
    );
}

#[tokio::test]
async fn p5_url_headers_and_body_are_templates() {
    for (engine, quote) in [("handlebars", ""), ("jinja", "'")] {
        let member = |name: &str| match quote {
            "" => format!("data.{name}"),
            quote => format!("data[{quote}{name}{quote}]"),
        };
        let endpoint = ScriptedEndpoint::start([]).await;
        let folder = Folder::with(&format!(
            r#"
            [[webhooks]]
            name = "target"
            url = "{url}/{{{{ model }}}}/{{{{ {name} }}}}?by={{{{ username }}}}"
            additional_headers = """
            X-Object: {{{{ object_type }}}} {{{{ {id} }}}}
            X-Name: {{{{ {name} }}}}
            """
            template_engine = "{engine}"
            body_template = '''{{"name": {{{{ {name} }}}}, "text": "{{{{ event }}}}: {{{{ {name} }}}}"}}'''
            [[event_rules]]
            name = "all"
            object_types = ["*"]
            event_types = ["updated"]
            webhooks = ["target"]
            "#,
            url = endpoint.url("/hooks"),
            name = member("name"),
            id = member("id"),
        ));
        let server = Server::start(&folder).await;
        let name = "Zürich/1 \"a&b\"";
        server
            .publish(
                &json!({"event": "updated", "object_type": "dcim.site", "username": "eve",
                        "data": {"id": 5, "name": name}})
                .to_string(),
            )
            .await;
        let received = endpoint.wait_for(1).await.remove(0);
        assert_eq!(received.target, "/hooks/site/Z%C3%BCrich%2F1%20%22a%26b%22?by=eve", "{engine}");
        assert_eq!(received.header("x-object"), Some("dcim.site 5"), "{engine}");
        assert_eq!(received.header("x-name"), Some(name), "{engine}");
        assert_eq!(body(&received), json!({"name": name, "text": format!("updated: {name}")}), "{engine}");
        assert_eq!(server.program.terminate().await.code(), 0);
    }
}

#[tokio::test]
async fn p6_a_value_that_would_add_a_header_line_is_a_dead_letter_and_not_a_request() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = one_webhook(&endpoint, r#"additional_headers = "X-Address: {{ data.address }}""#);
    let server = Server::start(&folder).await;
    server.publish(&ip_address("1\r\nX-Injected: yes", "active")).await;
    let dead = server.deliveries("dead", 1).await.remove(0);
    assert_eq!(dead["dead_reason"], "invalid_request");
    assert_eq!(dead["last_error"]["kind"], "headers");
    // What is sound goes on.
    server.publish(&ip_address("2", "active")).await;
    let received = endpoint.wait_for(1).await;
    assert_eq!((received.len(), received[0].header("x-address")), (1, Some("2")));
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn p4_put_with_form_content_and_a_secret_is_signed() {
    let more = r#"
        method = "PUT"
        content_type = "application/x-www-form-urlencoded"
        body_template = 'address={{ data.address }}&by={{ username }}'
        secret = "correct horse"
        "#;
    let received = sent(more, &ip_address("192.0.2.1/24 & more=1", "active")).await;
    assert_eq!(received.method, "PUT");
    assert_eq!(received.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(received.text(), "address=192.0.2.1%2F24%20%26%20more%3D1&by=jstretch");
    let signature = received.header("x-hook-signature").map(str::as_bytes);
    assert_eq!(verify_netbox(&[Secret::new("correct horse")], signature, &received.body), Ok(()));
    assert!(verify_netbox(&[Secret::new("battery staple")], signature, &received.body).is_err());
}

#[tokio::test]
async fn p7_the_slack_template_gives_valid_json_whatever_the_values_hold() {
    // Three quotes, since the template of the page has some of its own.
    let jinja = r#"
        template_engine = "jinja"
        body_template = '''{"text": "IP address {{ data['address'] }} was created by {{ username }}!"}'''
        "#;
    let handlebars = r#"
        body_template = '{"text": "IP address {{data.address}} was created by {{username}}!"}'
        "#;
    for more in [jinja, handlebars] {
        for address in [
            "192.0.2.1/24",
            "a \"quoted\" \\ back\\\\slash",
            "line\nend\r\n\ttab \u{7f} \u{2028}",
            "Ünïcode 🦀",
        ] {
            let received = sent(more, &ip_address(address, "active")).await;
            let text = format!("IP address {address} was created by jstretch!");
            assert_eq!(body(&received), json!({ "text": text }), "{more}");
        }
    }
}

#[tokio::test]
async fn p12_p13_a_receiver_that_fails_twice_gets_three_attempts_and_all_is_on_record() {
    let endpoint = ScriptedEndpoint::start([Answer::Status(500), Answer::Status(500)]).await;
    let more = r#"retry = { max_attempts = 5, schedule = ["100ms"], jitter = 0.0 }"#;
    let folder = one_webhook(&endpoint, more);
    let server = Server::start(&folder).await;
    let event = server.publish(&ip_address("192.0.2.1/24", "active")).await.remove(0);
    let received = endpoint.wait_for(3).await;
    let numbers: Vec<_> =
        received.iter().map(|received| received.header("webhook-attempt").unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    let id = received[0].header("webhook-id").unwrap().to_owned();
    assert!(received.iter().all(|received| received.header("webhook-id") == Some(&id)));

    let listed = server.deliveries("delivered", 1).await.remove(0);
    let (status, shown) = server.get(&format!("/v1/deliveries/{id}")).await;
    assert_eq!(status, 200);
    let url = server.url();
    let list_by_server =
        folder.hookwire_json(&["deliveries", "list", "--format", "json", "--url", &url]).await;
    let show_by_server =
        folder.hookwire_json(&["deliveries", "show", &id, "--format", "json", "--url", &url]).await;
    assert_eq!(server.program.terminate().await.code(), 0);
    assert_eq!(endpoint.received().len(), 3, "a graceful stop repeats nothing");
    // No server now: the same commands open the store themselves.
    let list_by_store = folder.hookwire_json(&["deliveries", "list", "--format", "json"]).await;
    let show_by_store = folder.hookwire_json(&["deliveries", "show", &id, "--format", "json"]).await;

    for list in [&list_by_server, &list_by_store] {
        assert_eq!(list["items"], json!([listed]));
        assert_eq!(list["next_cursor"], Value::Null);
    }
    for show in [&show_by_server, &show_by_store] {
        assert_eq!(show, &shown);
    }
    assert_eq!(
        members(&listed),
        [
            "id",
            "event_id",
            "event",
            "object_type",
            "rule",
            "webhook",
            "endpoint",
            "state",
            "waiting_reason",
            "attempts",
            "interrupted",
            "next_attempt_at",
            "created_at",
            "finished_at",
            "last_status",
            "last_error",
            "dead_reason"
        ]
    );
    assert_eq!(listed["id"], id);
    assert_eq!(listed["event_id"], event);
    assert_eq!(
        (&listed["state"], &listed["attempts"], &listed["last_status"]),
        (&json!("delivered"), &json!(3), &json!(200))
    );
    let log = shown["attempt_log"].as_array().unwrap();
    for member in [
        "number",
        "started_at",
        "duration_ms",
        "outcome",
        "status",
        "error",
        "address",
        "hops",
        "request",
        "response",
    ] {
        assert!(log.iter().all(|attempt| attempt.get(member).is_some()), "{member} in {log:?}");
    }
    let outcomes: Vec<_> = log.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["rejected", "rejected", "succeeded"]);
    let request = &log[2]["request"];
    assert_eq!(members(request), ["method", "url", "headers", "body_bytes", "body_sha256", "body_base64"]);
    assert_eq!(request["body_bytes"], received[2].body.len());
    assert_eq!(members(&log[2]["response"]), ["status", "headers", "body_base64", "truncated"]);
}
