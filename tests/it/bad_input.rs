//! What a person reads who made a mistake, or whose machine did: the message, the exit code, and that nothing is half
//! done.

use std::path::Path;
use std::process::Stdio;

use hookwire_testkit::{Ended, Program, ScriptedEndpoint, binary, eventually};
use hyper::Method;
use serde_json::json;
use tokio::process::Command;

use crate::support::{Folder, Server, call, exchanged, snapshots};

/// A configuration in which nothing is wrong, for one mistake at a time to be put into.
const SOUND: &str = r#"[store]
url = "embedded:./store"

[server]
listen = "127.0.0.1:0"

[[webhooks]]
name = "slack"
url = "http://127.0.0.1:9/{{ data.id }}"
additional_headers = "X-Object: {{ object_type }}"
body_template = '{"text": "{{ data.address }}"}'

[[event_rules]]
name = "ip-created"
object_types = ["ipam.ipaddress"]
event_types = ["created"]
conditions = { attr = "name", op = "regex", value = "^core-" }
webhooks = ["slack"]
"#;

/// Each mistake: its name, what is replaced, and by what.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("syntax", "name = \"slack\"", "name = \"slack"),
    ("unknown_member", "additional_headers", "aditional_headers"),
    ("unknown_setting", "listen =", "listn ="),
    ("unknown_table", "[server]", "[servr]"),
    ("wrong_type", "object_types = [\"ipam.ipaddress\"]", "object_types = \"ipam.ipaddress\""),
    ("no_unit", "listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:0\"\n[worker]\nlease = 15"),
    ("unknown_webhook", "webhooks = [\"slack\"]", "webhooks = [\"slak\"]"),
    ("bad_regex", "^core-", "^core-("),
    ("bad_operator", "\"regex\"", "\"matches\""),
    ("template_url", "/{{ data.id }}", "/{{ data.id }"),
    ("template_headers", "{{ object_type }}", "{{#if object_type}}"),
    ("template_body", "{{ data.address }}", "{{ data.address | upper }}"),
    ("template_name", "{{ data.address }}", "{{ usernam }}"),
    ("jinja_url", "/{{ data.id }}\"", "/{{ data.id }\"\ntemplate_engine = \"jinja\""),
    (
        "jinja_headers",
        "\"X-Object: {{ object_type }}\"",
        "\"X-Object: {% if object_type %}\"\ntemplate_engine = \"jinja\"",
    ),
    ("jinja_body", "{{ data.address }}\"}'", "{{ data.address|uper }}\"}'\ntemplate_engine = \"jinja\""),
    ("secret_not_set", "[[event_rules]]", "secret_env = \"NO_SUCH_SECRET\"\n[[event_rules]]"),
    ("secret_file_missing", "[[event_rules]]", "secret_file = \"no-such-file\"\n[[event_rules]]"),
    ("two_secrets", "[[event_rules]]", "secret = \"a\"\nsecret_env = \"HOME\"\n[[event_rules]]"),
    ("listens_without_a_token", "127.0.0.1:0", "0.0.0.0:0"),
    (
        "contradiction",
        "url = \"embedded:./store\"",
        "url = \"embedded:./store\"\nmax_pending_bytes = \"1KiB\"",
    ),
];

fn shown(ended: &Ended) -> String {
    format!("exit {}\n--- stdout\n{}--- stderr\n{}", ended.code(), ended.stdout, ended.stderr)
}

/// A command of ours with an environment of its own.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("hookwire"));
    command.current_dir(folder).args(arguments).env_remove("RUST_BACKTRACE").env("NO_COLOR", "1");
    command
}

#[tokio::test]
async fn each_mistake_in_a_configuration_is_told_with_place_and_remedy() {
    let folder = Folder::new();
    let _snapshots = snapshots(&folder);
    folder.write("hookwire.toml", SOUND);
    assert_eq!(folder.hookwire(&["check"]).await.code(), 0);
    let mut told = String::new();
    for (name, from, to) in MISTAKES {
        let text = SOUND.replacen(from, to, 1);
        assert_ne!(text, SOUND, "{name} changes nothing");
        folder.write("hookwire.toml", &text);
        let check = folder.hookwire(&["check"]).await;
        let serve = folder.hookwire(&["serve"]).await;
        assert_eq!((check.code(), serve.code()), (1, 78), "{name}: {}{}", shown(&check), shown(&serve));
        let same = check.stderr.lines().filter(|line| !line.ends_with("found"));
        assert!(same.clone().all(|line| serve.stderr.contains(line)), "{name}: {}", serve.stderr);
        told += &format!("# {name}\n{}\n", check.stderr);
    }
    assert!(!folder.path().join("store").exists(), "a store was made for a configuration that is not sound");
    insta::assert_snapshot!("mistakes", told);
}

#[tokio::test]
async fn a_name_in_two_files_shows_both_places() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    folder.write("conf.d/a.toml", SOUND);
    folder
        .write("conf.d/b.toml", "# Another.\n[[webhooks]]\nname = \"slack\"\nurl = \"http://localhost/\"\n");
    let _snapshots = snapshots(&folder);
    let ended = folder.hookwire(&["check", "--config", "conf.d"]).await;
    insta::assert_snapshot!("two_files", shown(&ended));
}

#[tokio::test]
async fn what_comes_from_elsewhere_is_named_by_its_origin() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    let _snapshots = snapshots(&folder);
    let mut told = String::new();
    for (name, value) in [
        ("HOOKWIRE_WORKER_CONCURRENCY", "many"),
        ("HOOKWIRE_SERVER_LISTEN", "8080"),
        ("HOOKWIRE_STORE_MAX_PENDING_BYTES", "8"),
        ("HOOKWIRE_STORE_URL", "sqlite:x"),
        ("HOOKWIRE_EGRESS_ALLOW", "10.0.0.0/99"),
    ] {
        let mut command = command(folder.path(), &["serve"]);
        command.env(name, value);
        let ended = Program::start_command("hookwire", command).wait().await;
        assert_eq!(ended.code(), 78, "{name}");
        told += &format!("# {name}={value}\n{}\n", ended.stderr);
    }
    for arguments in [["serve", "--listen", "nowhere"], ["serve", "--store", "postgres://localhost/"]] {
        let ended = folder.hookwire(&arguments).await;
        assert_eq!(ended.code(), 78, "{arguments:?}");
        told += &format!("# {}\n{}\n", arguments.join(" "), ended.stderr);
    }
    insta::assert_snapshot!("elsewhere", told);
}

#[tokio::test]
async fn what_is_in_force_can_be_shown_only_of_what_checks() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    let shown = folder.hookwire(&["config", "show", "--store", "memory:"]).await;
    assert_eq!((shown.code(), shown.stderr.as_str()), (0, ""));
    for line in
        ["url = \"memory:\"  # --store", "lease = \"15s\"  # default", "name = \"slack\"  # hookwire.toml:8"]
    {
        let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(shown.stdout.lines().any(|shown| spaced(shown) == spaced(line)), "{line}: {}", shown.stdout);
    }
    let json = folder.hookwire_json(&["config", "show", "--format", "json"]).await;
    assert_eq!(json["settings"][0]["origin"]["line"], 2);
    let schema = folder.hookwire_json(&["config", "schema"]).await;
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    folder.write("hookwire.toml", "[store]\nurl = 1\n");
    for (arguments, code) in [("config show", 78), ("config show -c missing.toml", 66), ("config", 2)] {
        let ended = folder.hookwire(&arguments.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{arguments}");
    }
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused_with_a_proposal() {
    let folder = Folder::new();
    let _snapshots = snapshots(&folder);
    let mut told = String::new();
    for arguments in ["chekc", "check --confg x", "config shwo", "serve extra"] {
        let ended = folder.hookwire(&arguments.split(' ').collect::<Vec<_>>()).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (2, ""), "{arguments}");
        told += &format!("# {arguments}\n{}\n", ended.stderr);
    }
    insta::assert_snapshot!("unknown_commands", told);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_told_with_the_cause() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    folder.write("event.json", EVENT);
    folder.write("a-file", "");
    let _snapshots = snapshots(&folder);
    let mut told = String::new();
    // Nobody, not even root, makes a folder in /proc.
    for (store, code) in
        [("embedded:./a-file", 78), ("embedded:./a-file/store", 74), ("embedded:/proc/store", 74)]
    {
        for command in [vec!["serve"], vec!["publish", "event.json"]] {
            let arguments = [command, vec!["--store", store]].concat();
            let ended = folder.hookwire(&arguments).await;
            assert_eq!((ended.code(), ended.stdout.as_str()), (code, ""), "{arguments:?}");
            told += &format!("# {}\n{}\n", arguments.join(" "), ended.stderr);
        }
    }
    // Not ours, and one of a later time.
    folder.write("event.json", EVENT);
    assert_eq!(folder.hookwire(&["publish", "event.json"]).await.code(), 0);
    let database = folder.path().join("store/hookwire.db");
    let sound = std::fs::read(&database).unwrap();
    let mut newer = sound.clone();
    // SQLite's file format, section 1.3: the user version is a big-endian number at byte 60.
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&database, &newer).unwrap();
    let mut foreign = sound.clone();
    // At byte 68 stands whose file it is.
    foreign[68..72].copy_from_slice(&7_u32.to_be_bytes());
    for (name, bytes, code) in
        [("newer", newer, 78), ("foreign", foreign, 74), ("damaged", b"no database".repeat(1000), 74)]
    {
        std::fs::write(&database, &bytes).unwrap();
        for command in [vec!["serve"], vec!["publish", "event.json"], vec!["deliveries", "list"]] {
            let ended = folder.hookwire(&command).await;
            assert_eq!(
                (ended.code(), ended.stdout.as_str()),
                (code, ""),
                "{name} {command:?} {}",
                ended.stderr
            );
            if command[0] == "serve" {
                told += &format!("# {name}\n{}\n", ended.stderr);
            }
        }
        assert!(std::fs::read(&database).unwrap() == bytes, "{name}: the file was written to");
    }
    std::fs::write(&database, sound).unwrap();
    assert_eq!(
        folder.hookwire(&["publish", "event.json"]).await.stderr,
        "e1 was published before; nothing was stored\n"
    );
    insta::assert_snapshot!("unusable_stores", told);
}

const EVENT: &str = r#"{"event": "created", "object_type": "dcim.site", "id": "e1", "data": {"id": 1}}"#;

#[tokio::test]
async fn a_store_in_use_and_a_port_in_use_name_who_has_them() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    folder.write("event.json", EVENT);
    let server = Server::start(&folder).await;
    let owner = server.program.id().unwrap().to_string();
    let _snapshots = snapshots(&folder);
    let mut told = String::new();
    let listen = server.address.to_string();
    let other_store = ["serve", "--store", "memory:", "--listen", &listen];
    for command in
        [&["publish", "event.json"][..], &["deliveries", "list"], &["worker", "--until-idle"], &other_store]
    {
        let ended = folder.hookwire(command).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (69, ""), "{command:?} {}", ended.stderr);
        told += &format!("# {}\n{}\n", command.join(" "), ended.stderr.replace(&owner, "[pid]"));
    }
    insta::assert_snapshot!("in_use", told);
    assert_eq!(server.program.terminate().await.code(), 0);
}

#[tokio::test]
async fn what_was_accepted_before_the_file_could_not_grow_is_kept_and_no_more() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    let events: Vec<String> =
        (0..1_500).map(|at| EVENT.replace("e1", &format!("e{at}-{}", "x".repeat(100)))).collect();
    folder.write("events.ndjson", &events.join("\n"));
    // A limit of the shell's, in blocks of 512 bytes; its signal is ignored, so that the write fails instead.
    let script = r#"trap "" XFSZ; ulimit -f 500; exec "$HOOKWIRE" publish events.ndjson"#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder.path());
    command.env("HOOKWIRE", binary("hookwire")).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    let ended = Program::start_command("sh", command).wait().await;
    assert_eq!(ended.code(), 74, "{}", ended.stderr);
    assert!(ended.stderr.contains("the store cannot write"), "{}", ended.stderr);
    let accepted = ended.stdout.lines().count();
    assert!(accepted < events.len(), "the limit is not reached");
    // Those whose ids were printed are there, and no others.
    let again = folder.hookwire(&["publish", "events.ndjson"]).await;
    assert_eq!((again.code(), again.stdout.lines().count()), (0, events.len()), "{}", again.stderr);
    let known = format!("{accepted} of {} events were published before", events.len());
    assert!(again.stderr.contains(&known), "{known}: {}", again.stderr);
}

/// Runs a script in which `store` is a disk of its own, which the script's user may mount; `None` where the system does
/// not let us.
fn with_own_disk(folder: &Folder, script: &str) -> Option<Command> {
    let namespaced = |script: &str| {
        let mut unshare = std::process::Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
            .current_dir(folder.path());
        unshare
    };
    let _ = std::fs::create_dir(folder.path().join("store"));
    let can = namespaced("mount -t tmpfs none store").stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        use std::io::Write as _;
        // Past the harness, which shows nothing of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "note: unshare --user --mount is not allowed here; one test is left out"
        );
        return None;
    }
    let mut command: Command = namespaced(script).into();
    command.env("HOOKWIRE", binary("hookwire")).env("NO_COLOR", "1").env_remove("RUST_BACKTRACE");
    Some(command)
}

#[tokio::test]
async fn a_disk_that_is_read_only_is_told() {
    let folder = Folder::new();
    folder.write("hookwire.toml", SOUND);
    folder.write("event.json", EVENT);
    let script = r#"
        mount -t tmpfs none store
        "$HOOKWIRE" publish event.json
        mount -o remount,ro store
        for command in "serve" "publish event.json" "worker --until-idle"; do
            "$HOOKWIRE" $command 2>&1 || echo "$command: exit $?"
        done
    "#;
    let Some(command) = with_own_disk(&folder, script) else { return };
    let ended = Program::start_command("unshare", command).wait().await;
    let _snapshots = snapshots(&folder);
    insta::assert_snapshot!("read_only", shown(&ended));
}

#[tokio::test]
async fn a_full_disk_refuses_what_it_cannot_keep_and_goes_on_when_there_is_room() {
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = Folder::new();
    let url = endpoint.url("/");
    folder.write(
        "hookwire.toml",
        &SOUND
            .replace("http://127.0.0.1:9/{{ data.id }}", &url)
            .replace("ipam.ipaddress", "*")
            .replace("conditions = { attr = \"name\", op = \"regex\", value = \"^core-\" }\n", ""),
    );
    let script = r#"
        mount -t tmpfs -o size=2m none store
        head -c 1400000 /dev/zero > store/filler
        exec "$HOOKWIRE" serve
    "#;
    let Some(command) = with_own_disk(&folder, script) else { return };
    let server = Server::of(Program::start_command("unshare", command)).await;
    let event = |id: usize| {
        json!({"event": "created", "object_type": "dcim.site", "id": format!("e{id}"),
            "data": {"id": id, "address": "x".repeat(10_000)}})
        .to_string()
    };
    // Until the disk stays full: what the log took is free again once it has begun anew.
    let (mut accepted, mut refused) = (0, 0);
    let (mut refusal, mut ready, mut metrics);
    loop {
        let (status, answer) =
            call(server.address, Method::POST, "/v1/events", &event(accepted)).await.unwrap();
        if status == 202 {
            accepted += 1;
            assert!(accepted < 1_000, "the disk does not get full");
            continue;
        }
        refused += 1;
        assert!(status == 503 && refused < 1_000, "{answer}");
        refusal = answer["detail"].as_str().unwrap().to_owned();
        ready = exchanged(server.address, "/readyz").await;
        metrics = exchanged(server.address, "/metrics").await.1;
        if ready.0 == 503 && metrics.contains("hookwire_store_up 0") {
            break;
        }
    }
    assert!(accepted > 0);
    // It is told everywhere, though the store can be looked into.
    assert!(refusal.contains("no space is left on the disk"), "{refusal}");
    assert!(ready.1.contains("no space is left on the disk"), "{ready:?}");
    assert_eq!(server.get("/v1/stats").await.0, 200);
    // What was accepted is delivered all the same, and that is put down.
    endpoint.wait_for(accepted).await;
    server.deliveries("delivered", accepted).await;
    // Room again: the program's own view of the disk, by way of its process.
    let id = server.program.id().unwrap();
    let filler = format!("/proc/{id}/root{}/store/filler", folder.path().display());
    std::fs::remove_file(&filler).unwrap();
    eventually("an event is accepted again", async || {
        let (status, _) = call(server.address, Method::POST, "/v1/events", &event(accepted)).await.unwrap();
        (status == 202).then_some(())
    })
    .await;
    assert_eq!(exchanged(server.address, "/readyz").await, (200, "ready\n".to_owned()));
    let (_, metrics) = exchanged(server.address, "/metrics").await;
    assert!(metrics.contains("hookwire_store_up 1"), "{metrics}");
    // Whatever was accepted arrives, and the one that was refused arrives once: it was not stored before.
    endpoint.wait_for(accepted + 1).await;
    server.deliveries("delivered", accepted + 1).await;
    let mut ids: Vec<_> =
        endpoint.received().iter().map(|got| got.header("webhook-id").unwrap().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), accepted + 1);
    assert_eq!(server.program.terminate().await.code(), 0);
}
