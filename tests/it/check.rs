//! What the commands that look say and how they end: `check`, `preview`, `explain`, and every exit code that a script
//! may rely on.

use std::fs::File;
use std::process::{Command, Stdio};

use hookwire_testkit::{Ended, Program};
use tokio::net::TcpListener;

use crate::support::{Folder, Server, snapshots};

const GOOD: &str = r#"
[[webhooks]]
name = "slack"
url = "http://127.0.0.1:9/services/{{ data.id }}"
additional_headers = "X-Object: {{ object_type }}"
body_template = '{"text": "IP address {{ data.address }} was created by {{ username }}!"}'
secret = "a secret"

[[event_rules]]
name = "ip-created"
object_types = ["ipam.ipaddress"]
event_types = ["created"]
conditions = { and = [ { attr = "status.value", value = "active" }, { attr = "id", value = 5, op = "gt" } ] }
webhooks = ["slack"]

[[event_rules]]
name = "sites"
object_types = ["dcim.site"]
event_types = ["*"]
webhooks = ["slack"]
"#;

/// Wrong in four ways: a word, a name, a template, a number.
const BAD: &str = r#"
[[webhooks]]
name = "slack"
url = "http://127.0.0.1:9/"
metod = "POST"
body_template = '{"text": "{{ data.address"}'

[[event_rules]]
name = "ip-created"
object_types = ["ipam.ipaddress"]
event_types = ["created"]
webhooks = ["slak"]

[worker]
concurrency = 0
"#;

/// Sound, and yet nothing would go out: the address is that of a metadata service; the event chooses one of loopback;
/// the webhook is disabled.
const REFUSED: &str = r#"
[[webhooks]]
name = "metadata"
url = "http://169.254.169.254/"

[[webhooks]]
name = "chosen"
url = "http://127.0.0.{{ data.id }}:9000/"
body_template = "{}"

[[webhooks]]
name = "disabled"
url = "https://hooks.example/"
body_template = "{}"
enabled = false

[[event_rules]]
name = "all"
object_types = ["*"]
event_types = ["*"]
webhooks = ["metadata", "chosen", "disabled"]
"#;

const EVENT: &str = r#"{"event": "created", "object_type": "ipam.ipaddress", "id": "e1", "username": "eve",
  "timestamp": "2026-03-05 10:22:44+00:00",
  "data": {"id": 7, "address": "192.0.2.1/24", "status": {"value": "active"}}}"#;

fn good() -> Folder {
    let folder = Folder::with(GOOD);
    folder.write("event.json", EVENT);
    folder.write("reserved.json", &EVENT.replace("active", "reserved"));
    folder.write("nameless.json", &EVENT.replace("\"address\"", "\"addr\""));
    folder.write("typo.json", &EVENT.replace("\"data\"", "\"dta\""));
    folder
}

fn shown(ended: &Ended) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", ended.code(), ended.stdout, ended.stderr)
}

#[tokio::test]
async fn what_the_commands_that_look_say() {
    let folder = good();
    folder.write("bad.toml", BAD);
    folder.write("broken.toml", "[[webhooks]\nname = ");
    folder.write("nothing.toml", "[store]\nurl = \"memory:\"");
    folder.write("refused.toml", REFUSED);
    let _snapshots = snapshots(&folder);
    for (name, arguments) in [
        ("check_good", "check"),
        ("check_bad", "check --config bad.toml"),
        ("check_broken", "check --config broken.toml"),
        ("check_events", "check --events event.json"),
        ("check_events_that_fail", "check --events nameless.json"),
        ("serve_bad", "serve --config bad.toml"),
        ("preview_text", "preview --event event.json"),
        ("preview_json", "preview --event event.json --format json"),
        ("preview_error", "preview --event nameless.json --format json"),
        ("check_refused", "check --config refused.toml --events event.json"),
        ("preview_refused", "preview --config refused.toml --event event.json"),
        ("preview_unmatched", "preview --event reserved.json --rule ip-created"),
        ("explain_text", "explain --event event.json"),
        ("explain_json", "explain --event reserved.json --format json"),
        ("preview_nothing", "preview --event event.json --config nothing.toml"),
        ("explain_nothing", "explain --event event.json --config nothing.toml --format json"),
        ("worker_nothing", "worker --until-idle --config nothing.toml"),
        ("bad_event", "preview --event typo.json"),
        ("publish_bad_event", "publish event.json typo.json"),
        ("missing_config", "serve --config missing.toml"),
        ("missing_event", "explain --event missing.json"),
        ("no_store", "deliveries show dlv_00000000000000000000000000"),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let ended = folder.hookwire(&arguments).await;
        insta::assert_snapshot!(name, shown(&ended), &arguments.join(" "));
    }
}

#[tokio::test]
async fn exit_codes_are_those_that_scripts_rely_on() {
    let folder = good();
    folder.write("bad.toml", BAD);
    for (arguments, code) in [
        ("check", 0),
        ("check --config bad.toml", 1),
        ("check --config missing.toml", 66),
        ("check --events missing.json", 66),
        ("check --events typo.json", 65),
        ("check --events nameless.json", 1),
        ("preview --event event.json --rule ip-created", 0),
        ("preview --event event.json --rule sites", 1),
        ("preview --event event.json --rule unknown", 1),
        ("preview --event typo.json", 65),
        ("explain --event typo.json", 65),
        ("explain --event missing.json", 66),
        ("publish typo.json", 65),
        ("publish missing.json", 66),
        ("publish --url http://127.0.0.1:1 --wait 0 event.json", 69),
        ("deliveries list --url http://127.0.0.1:1", 69),
        ("deliveries list --state nonsense", 2),
        ("deliveries show nonsense", 2),
        ("stats --store embedded:./nowhere", 69),
        ("stats --store embedded:./event.json/x", 74),
        ("stats --store embedded:./event.json", 78),
        ("publish --store embedded:./event.json event.json", 78),
        ("serve --config bad.toml", 78),
        ("serve --listen 0.0.0.0:0", 78),
        ("worker --config bad.toml", 78),
        ("preview", 2),
        ("nonsense", 2),
        ("--version", 0),
    ] {
        let ended = folder.hookwire(&arguments.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(ended.code(), code, "hookwire {arguments}\n{}", shown(&ended));
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_remedy() {
    let folder = good();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = folder.hookwire(&["serve", "--listen", &address]).await;
    assert_eq!(ended.code(), 69);
    let _snapshots = snapshots(&folder);
    insta::assert_snapshot!("port_taken", ended.stderr);
}

#[tokio::test]
async fn a_store_in_use_names_its_owner() {
    let folder = good();
    let server = Server::start(&folder).await;
    // The configuration's port is 0, so the command finds no server and turns to the store itself.
    let ended = folder.hookwire(&["publish", "--wait", "0", "event.json"]).await;
    assert_eq!(ended.code(), 69, "{}", ended.stderr);
    let owner = server.program.id().unwrap().to_string();
    assert!(ended.stderr.contains(&owner), "{} has no {owner}", ended.stderr);
    let ended = folder.hookwire(&["publish", "--url", &server.url(), "event.json"]).await;
    assert_eq!((ended.code(), ended.stdout.as_str()), (0, "e1\n"), "{}", ended.stderr);
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_told_and_words_that_cannot_be_do_no_harm() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let run = |arguments: &[&str], stdout: Stdio, stderr: Stdio| {
        let mut command = Command::new(hookwire_testkit::binary("hookwire"));
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).output().unwrap()
    };
    let cut_off = run(&["completions", "bash"], full().into(), Stdio::piped());
    assert_eq!(cut_off.status.code(), Some(74), "{cut_off:?}");
    let told = String::from_utf8(cut_off.stderr).unwrap();
    assert!(told.starts_with("error: standard output cannot be written\n  because: No space left"), "{told}");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let read_enough = run(&["completions", "bash"], writer.into(), Stdio::piped());
    assert_eq!((read_enough.status.code(), read_enough.stderr.as_slice()), (Some(0), &b""[..]));

    let unheard = run(&["deliveries", "retry"], Stdio::null(), full().into());
    assert_eq!(unheard.status.code(), Some(2), "{unheard:?}");
}

#[tokio::test]
async fn a_misspelt_variable_is_told() {
    let folder = Folder::with(GOOD);
    let env = [("HOOKWIRE_WORKER_CONCURENCY", "3")];
    let ended = Program::start_with_env("hookwire", folder.path(), &["check"], &env).wait().await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("did you mean HOOKWIRE_WORKER_CONCURRENCY?"), "{ended:?}");
}

#[tokio::test]
async fn an_address_that_nothing_is_sent_to_is_told_before_anything_is() {
    let forbidden = GOOD.replacen("http://127.0.0.1:9/", "http://169.254.169.254/", 1);
    let folder = Folder::with(&forbidden);
    let ended = folder.hookwire(&["check"]).await;
    assert_eq!(
        (ended.code(), ended.stdout.as_str()),
        (0, "1 webhook and 2 event rules are sound, with 1 warning\n")
    );
    let told = "webhook slack: 169.254.169.254 is the address of a cloud's metadata service";
    assert!(ended.stderr.contains(told) && ended.stderr.contains("egress.allow"), "{ended:?}");
    let allowed = Folder::with(&format!("{forbidden}\n[egress]\nallow = [\"169.254.169.254\"]\n"));
    assert_eq!(allowed.hookwire(&["check"]).await.stderr, "");
}
