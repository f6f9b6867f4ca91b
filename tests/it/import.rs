//! `hookwire import netbox`: from files and from a server that answers as NetBox does; what it writes and what it says.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use hookwire_testkit::{Answer, Ended, Program, ScriptedEndpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::{Folder, snapshots};

fn webhook(id: u64, name: &str, secret: &str) -> Value {
    json!({"id": id, "name": name, "payload_url": "http://127.0.0.1:9/in", "http_method": "POST",
        "http_content_type": "application/json", "additional_headers": "", "body_template": "{{ data.name }}",
        "secret": secret, "ssl_verification": true, "ca_file_path": null, "description": "", "tags": []})
}

fn rule(id: u64, webhook: u64) -> Value {
    json!({"id": id, "name": format!("rule {id}"), "enabled": true, "object_types": ["dcim.site"],
        "event_types": ["object_created"], "conditions": {"attr": "status.value", "value": "active"},
        "action_type": {"value": "webhook", "label": "Webhook"}, "action_object_id": webhook})
}

/// A page of a list.
fn page(next: Option<&str>, items: &[Value]) -> Answer {
    Answer::Json(200, json!({"count": 9, "next": next, "results": items}).to_string())
}

fn no(status: u16, detail: &str) -> Answer {
    Answer::Json(status, json!({"detail": detail}).to_string())
}

/// A folder with an export.
fn exported(secret: &str) -> Folder {
    let folder = Folder::new();
    folder.write("webhooks.json", &json!([webhook(1, "one", secret)]).to_string());
    folder.write("rules.json", &json!([rule(1, 1)]).to_string());
    folder
}

const FILES: [&str; 6] = ["import", "netbox", "--webhooks", "webhooks.json", "--event-rules", "rules.json"];

async fn from_files(folder: &Folder, more: &[&str]) -> Ended {
    folder.hookwire(&[&FILES, more].concat()).await
}

async fn from_url(folder: &Folder, url: &str, token: &str, more: &[&str]) -> Ended {
    let arguments = [&["import", "netbox", "--url", url, "--token-env", "NETBOX_TOKEN"], more].concat();
    Program::start_with_env("hookwire", folder.path(), &arguments, &[("NETBOX_TOKEN", token)]).wait().await
}

fn mode(folder: &Folder, file: &str) -> u32 {
    folder.path().join(file).metadata().unwrap().permissions().mode() & 0o777
}

fn read(folder: &Folder, file: impl AsRef<Path>) -> String {
    std::fs::read_to_string(folder.path().join(file)).unwrap()
}

#[tokio::test]
async fn an_export_becomes_a_file_that_checks() {
    let folder = exported("hush");
    let _snapshots = snapshots(&folder);
    let ended = from_files(&folder, &["--output", "netbox.toml"]).await;
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    insta::assert_snapshot!("remarks", ended.stderr);
    insta::assert_snapshot!("file", read(&folder, "netbox.toml"));
    assert_eq!(mode(&folder, "netbox.toml"), 0o600, "it holds a secret");
    let ended = folder.hookwire(&["check", "--config", "netbox.toml"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
}

#[tokio::test]
async fn the_ending_says_what_is_written() {
    let folder = exported("");
    for (output, files) in [
        ("a.toml", vec!["a.toml"]),
        ("a.json", vec!["a.json"]),
        ("b/", vec!["b/webhooks.toml", "b/event_rules.toml"]),
    ] {
        let ended = from_files(&folder, &["--output", output]).await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        for file in files {
            let holds_webhooks = file != "b/event_rules.toml";
            assert_eq!(mode(&folder, file) & 0o040 == 0, holds_webhooks, "{file}");
        }
        let ended = folder.hookwire(&["check", "--config", output]).await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
    serde_json::from_str::<Value>(&read(&folder, "a.json")).unwrap();
    let ended = from_files(&folder, &[]).await;
    assert_eq!(ended.stdout, read(&folder, "a.toml"));
    let ended = from_files(&folder, &["--output", "a.yaml"]).await;
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    // Nothing is left beside the files.
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.filter(|name| name.to_string_lossy().contains("hookwire-import")).count() == 0);
}

#[tokio::test]
async fn nothing_is_replaced_without_force() {
    let folder = exported("hush");
    folder.write("netbox.toml", "# mine\n");
    std::fs::create_dir(folder.path().join("b")).unwrap();
    folder.write("b/event_rules.toml", "# mine\n");
    for output in ["netbox.toml", "b"] {
        let ended = from_files(&folder, &["--output", output]).await;
        assert_eq!(ended.code(), 1, "{}", ended.stderr);
        assert!(
            ended.stderr.contains("is there already") && ended.stderr.contains("--force"),
            "{}",
            ended.stderr
        );
    }
    assert_eq!(read(&folder, "netbox.toml"), "# mine\n");
    assert_eq!(read(&folder, "b/event_rules.toml"), "# mine\n");
    assert!(!folder.path().join("b/webhooks.toml").exists(), "neither of the two was written");
    let ended = from_files(&folder, &["--output", "netbox.toml", "--force"]).await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(mode(&folder, "netbox.toml"), 0o600, "whatever the mode of the one before");
    assert!(read(&folder, "netbox.toml").contains("hush"));
}

#[tokio::test]
async fn files_that_are_no_export_are_told() {
    let folder = exported("");
    folder.write("html.json", "<!DOCTYPE html>");
    folder.write("page.json", &json!({"next": "http://netbox/?offset=50", "results": []}).to_string());
    for (webhooks, rules, code, said) in [
        ("missing.json", "rules.json", 66, "missing.json cannot be read"),
        ("html.json", "rules.json", 65, "this is HTML"),
        ("page.json", "rules.json", 65, "is one page of several"),
        ("rules.json", "webhooks.json", 65, "are the two files swapped?"),
    ] {
        let ended =
            folder.hookwire(&["import", "netbox", "--webhooks", webhooks, "--event-rules", rules]).await;
        assert_eq!(ended.code(), code, "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    for arguments in [
        vec!["import", "netbox"],
        vec!["import", "netbox", "--webhooks", "webhooks.json"],
        vec!["import", "netbox", "--url", "http://127.0.0.1:9"],
        vec!["import", "netbox", "--url", "netbox.example.org", "--token-env", "HOME"],
        vec!["import", "netbox", "--url", "http://127.0.0.1:9", "--token-env", "NOT_SET_ANYWHERE"],
    ] {
        let ended = folder.hookwire(&arguments).await;
        assert_eq!(ended.code(), 2, "{arguments:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn all_pages_are_asked_for_with_either_kind_of_token() {
    for (token, authorization) in [
        ("0123456789abcdef0123456789abcdef01234567", "Token 0123456789abcdef0123456789abcdef01234567"),
        ("nbt_4F9DAouzURLb.zjebxBPzICiPbWz0", "Bearer nbt_4F9DAouzURLb.zjebxBPzICiPbWz0"),
    ] {
        let netbox = ScriptedEndpoint::start([
            // Behind a proxy NetBox often believes that it is somebody else.
            page(
                Some("http://internal:8001/api/extras/webhooks/?limit=1&offset=1"),
                &[webhook(1, "one", "")],
            ),
            page(None, &[webhook(2, "two", "")]),
            page(Some("http://internal:8001/api/extras/event-rules/?limit=1&offset=1"), &[rule(1, 2)]),
            page(None, &[rule(2, 1)]),
        ])
        .await;
        let folder = Folder::new();
        let ended = from_url(&folder, &netbox.url("/netbox/"), token, &[]).await;
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let received = netbox.received();
        let targets: Vec<&str> = received.iter().map(|request| request.target.as_str()).collect();
        assert_eq!(
            targets,
            [
                "/netbox/api/extras/webhooks/?limit=500",
                "/netbox/api/extras/webhooks/?limit=1&offset=1",
                "/netbox/api/extras/event-rules/?limit=500",
                "/netbox/api/extras/event-rules/?limit=1&offset=1",
            ]
        );
        for request in &received {
            assert_eq!(
                (request.method.as_str(), request.header("authorization")),
                ("GET", Some(authorization))
            );
        }
        for line in ["name = \"two\"", "name = \"rule 2\"", "webhooks = [\"two\"]"] {
            assert!(ended.stdout.contains(line), "{}", ended.stdout);
        }
    }
}

#[tokio::test]
async fn answers_that_are_no_list_are_told_plainly() {
    let html = "<!DOCTYPE html><html><title>Log in</title></html>".to_owned();
    let folder = Folder::new();
    let _snapshots = snapshots(&folder);
    let mut said = String::new();
    for (name, code, answer) in [
        ("invalid token", 69, no(403, "Invalid v1 token.")),
        ("no permission", 69, no(403, "You do not have permission to perform this action.")),
        ("wrong path", 69, Answer::Body(404, "text/html", html.clone())),
        ("start page", 65, Answer::Body(200, "text/html", html.clone())),
        ("login", 69, Answer::Redirect(302, "/login/?next=/api/extras/webhooks/".into())),
        ("elsewhere", 69, Answer::Redirect(301, "https://netbox.example.org/api/extras/webhooks/".into())),
        ("broken", 69, Answer::Body(502, "text/html", html)),
        ("no list", 65, Answer::Json(200, "{\"webhooks\": \"http://n/\"}".into())),
        ("no webhooks", 65, page(None, &[rule(1, 1)])),
    ] {
        let netbox = ScriptedEndpoint::start([answer]).await;
        netbox.otherwise(page(None, &[]));
        let ended = from_url(&folder, &netbox.url(""), "0123456789", &["--output", "netbox.toml"]).await;
        assert_eq!(ended.code(), code, "{name}: {}", ended.stderr);
        assert!(!ended.stderr.contains("0123456789"), "the token shows: {}", ended.stderr);
        assert!(!folder.path().join("netbox.toml").exists());
        said += &format!("{name}: {}", ended.stderr);
    }
    let ended = from_url(&folder, "http://127.0.0.1:1", "0123456789", &[]).await;
    assert_eq!(ended.code(), 69, "{}", ended.stderr);
    said += &format!("nobody: {}", ended.stderr);
    insta::assert_snapshot!("answers", said);
}

#[tokio::test]
async fn pages_that_lead_back_end() {
    let netbox = ScriptedEndpoint::start([]).await;
    netbox.otherwise(page(Some("http://n/?limit=500"), &[webhook(1, "one", "")]));
    let ended = from_url(&Folder::new(), &netbox.url(""), "0123456789", &[]).await;
    assert_eq!((ended.code(), netbox.received().len()), (65, 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("pages without an end"), "{}", ended.stderr);
}

/// TLS before another server, with a certificate of its own.
async fn tls_before(endpoint: &ScriptedEndpoint) -> (String, String, JoinSet<()>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let (pem, chain) = (certificate.pem(), vec![certificate.der().clone()]);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let behind = endpoint.address();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn(async move {
                let Ok(mut near) = acceptor.accept(stream).await else { return };
                let mut far = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (url, pem, server)
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_named_or_not_checked() {
    let netbox = ScriptedEndpoint::start([]).await;
    netbox.otherwise(page(None, &[]));
    let (url, pem, _server) = tls_before(&netbox).await;
    let folder = Folder::new();
    folder.write("ca.pem", &pem);
    folder.write("empty.pem", "");
    for (more, code, said) in [
        (&[][..], 69, "name that with --ca-file"),
        (&["--ca-file", "ca.pem"], 0, ""),
        (&["--insecure-skip-verify"], 0, ""),
        (&["--ca-file", "empty.pem"], 66, "holds no certificate"),
        (&["--ca-file", "missing.pem"], 66, "missing.pem"),
        (&["--ca-file", "ca.pem", "--insecure-skip-verify"], 2, "cannot be used with"),
    ] {
        let ended = from_url(&folder, &url, "0123456789", more).await;
        assert_eq!(ended.code(), code, "{more:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{more:?}: {}", ended.stderr);
    }
    assert_eq!(netbox.received().len(), 4, "two lists, twice");
}
