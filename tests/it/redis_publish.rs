//! Publishing by plain Redis commands: what `docs/queue.md` says to type is typed, and arrives.
//!
//! Invariant: the commands are those of the document, to the letter; only the server that they mean is another.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use hookwire_model::{Event, EventDefaults, EventId, Timestamp};
use hookwire_testkit::{Program, RedisServer, ScriptedEndpoint, eventually};
use serde_json::{Value, json};

use crate::redis::{definitions, folder};
use crate::support::{Folder, snapshots};

const DOCUMENT: &str = include_str!("../../docs/queue.md");
const EXAMPLE: &str = include_str!("../../crates/hookwire-queue-redis/examples/publish.rs");

/// As much of redis-py as the document's example needs, for machines that do not have it: the same commands go out.
const STAND_IN: &str = r#"
import socket


class Redis:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.answers = self.socket.makefile("rb")
        self.waiting = []

    @classmethod
    def from_url(cls, url):
        return cls(url.removeprefix("unix://"))

    def pipeline(self, transaction):
        return self

    def xadd(self, name, fields):
        parts = ["XADD", name, "*"] + [part for pair in fields.items() for part in pair]
        self.waiting.append([part.encode() for part in parts])

    def execute(self):
        for parts in self.waiting:
            self.socket.sendall(b"*%d\r\n" % len(parts))
            for part in parts:
                self.socket.sendall(b"$%d\r\n%s\r\n" % (len(part), part))
        answers = []
        for _ in self.waiting:
            head = self.answers.readline()
            assert head.startswith(b"$"), head
            answers.append(self.answers.read(int(head[1:]) + 2)[:-2])
        self.waiting = []
        return answers
"#;

/// The document's examples in a language, in the section on publishing.
fn examples(language: &str) -> Vec<&'static str> {
    let (_, section) = DOCUMENT.split_once("## Publishing from any language\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let begin = format!("```{language}\n");
    let examples = section.split(&begin).skip(1).map(|rest| rest.split_once("```\n").unwrap().0);
    examples.collect()
}

/// Types the document's lines for the shell. `redis-cli` means the test's server, with these options besides.
fn type_lines(folder: &Folder, redis: &RedisServer, options: &str, lines: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let own = folder.path().join("bin");
    std::fs::create_dir_all(&own).unwrap();
    folder
        .write("bin/redis-cli", "#!/bin/sh\nPATH=$REAL_PATH exec redis-cli -s \"$SOCKET\" $OPTIONS \"$@\"\n");
    std::fs::set_permissions(own.join("redis-cli"), Permissions::from_mode(0o755)).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-ec", lines]).current_dir(folder.path());
    shell.env("SOCKET", redis.socket()).env("OPTIONS", options).env("REAL_PATH", &path);
    let output = shell.env("PATH", format!("{}:{path}", own.display())).output().unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}; redis-cli comes with redis-server (Debian: redis-tools)");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the document's program, under redis-py where that is there. `None` without a Python.
fn run_python(folder: &Folder, redis: &RedisServer, program: &str) -> Option<String> {
    let python = || {
        let mut python = Command::new("python3");
        python.current_dir(folder.path()).env("REDIS_URL", redis.url()).env("PYTHONIOENCODING", "utf-8");
        python
    };
    if python().arg("--version").output().is_err() {
        eprintln!("left out: there is no python3 to run the document's example");
        return None;
    }
    if !python().args(["-c", "import redis"]).output().unwrap().status.success() {
        folder.write("redis.py", STAND_IN);
    }
    folder.write("example.py", program);
    let output = python().arg("example.py").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn bodies(endpoint: &ScriptedEndpoint) -> Vec<Value> {
    endpoint.received().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn names(endpoint: &ScriptedEndpoint) -> Vec<String> {
    let mut names: Vec<String> = bodies(endpoint)
        .iter()
        .map(|body| {
            format!("{} {} {}", body["event"], body["object_type"], body["data"]["name"]).replace('"', "")
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn p10_what_the_document_types_is_delivered() {
    let redis = RedisServer::start_durable();
    let endpoint = ScriptedEndpoint::start([]).await;
    let folder = folder(&redis.url(), "", &definitions(&endpoint));
    folder.write(
        "event.json",
        r#"{"event": "created", "object_type": "dcim.rack", "data": {"id": 1, "name": "file"}}"#,
    );
    // Nothing runs but Redis.
    let lines = examples("sh");
    assert_eq!(lines.len(), 2);
    let mut expected = vec!["created dcim.rack file", "created dcim.site Berlin"];
    for lines in &lines {
        let entry = type_lines(&folder, &redis, "", lines);
        assert!(entry.trim().split_once('-').is_some(), "XADD answers with the entry's id: {entry}");
    }
    let [python] = examples("python")[..] else { panic!("there is one example in Python") };
    if let Some(printed) = run_python(&folder, &redis, python) {
        assert_eq!(printed.lines().count(), 3, "{printed}");
        expected.extend(["created dcim.site Zürich", "deleted dcim.rack null", "updated dcim.site Genève"]);
    }
    redis.command(&[
        "XADD",
        "{hw:0}:in",
        "*",
        "event",
        r#"{"event": "created", "object_type": "dcim.site"}"#,
    ]);
    redis.command(&["XADD", "{hw:0}:in", "*", "event", &format!("\"{}\"", "x".repeat(1 << 20))]);
    redis.command(&["XADD", "{hw:0}:in", "*", "event", "{\u{1}}"]);

    let worker = Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]);
    endpoint.wait_for(expected.len()).await;
    expected.sort_unstable();
    assert_eq!(names(&endpoint), expected);
    // While a worker waits, an event is seen at once.
    type_lines(&folder, &redis, "", lines[0]);
    endpoint.wait_for(expected.len() + 1).await;

    let dead = eventually("three dead letters", async || {
        let dead = folder.hookwire_json(&["dead", "list", "--format", "json"]).await;
        (dead["items"].as_array().unwrap().len() == 3).then_some(dead)
    })
    .await;
    let said = dead["items"].as_array().unwrap().iter().map(|item| {
        assert_eq!((&item["dead_reason"], &item["rule"]), (&json!("unreadable_event"), &Value::Null));
        item["last_error"]["message"].as_str().unwrap()
    });
    // The newest first.
    let _snapshots = snapshots(&folder);
    insta::assert_snapshot!("dead_letters_of_what_cannot_be_read", said.collect::<Vec<_>>().join("\n"));
    assert_eq!(worker.terminate().await.code(), 0);
    assert_eq!(endpoint.received().len(), expected.len() + 1);
    assert_eq!(redis.command(&["XLEN", "{hw:0}:in"]), "0\n");
}

#[tokio::test]
async fn the_document_s_shards_are_ours() {
    const SHARDS: u16 = 7;
    let redis = RedisServer::start();
    let folder = Folder::new();
    let objects: Vec<(String, Value)> = (0..40)
        .map(|n| (format!("app.kind{}", n % 3), if n % 2 == 0 { json!(n) } else { json!(format!("ü-{n}")) }))
        .collect();
    let events: Vec<Value> = objects
        .iter()
        .map(|(kind, id)| json!({"event": "created", "object_type": kind, "data": {"id": id}}))
        .collect();
    let [python] = examples("python")[..] else { panic!("there is one example in Python") };
    let (functions, _) = python.split_once("entries = ").unwrap();
    let program = functions.replace("SHARDS = 1", &format!("SHARDS = {SHARDS}"));
    folder.write("events.json", &serde_json::to_string(&events).unwrap());
    let program = format!("{program}\npublish(store, json.load(open('events.json', encoding='utf-8')))\n");
    if run_python(&folder, &redis, &program).is_none() {
        return;
    }
    for shard in 0..SHARDS {
        let stream = redis.command(&["XRANGE", &format!("{{hw:{shard}}}:in"), "-", "+"]);
        for text in stream.lines().filter(|line| line.starts_with('{')) {
            let mut new_id = || EventId::new("none").unwrap();
            let mut defaults = EventDefaults { now: Timestamp::UNIX_EPOCH, new_id: &mut new_id };
            let event = Event::parse(text, &mut defaults).unwrap();
            assert_eq!(event.shard(SHARDS).0, shard, "{text}");
        }
    }
    let lengths = (0..SHARDS).map(|shard| redis.command(&["XLEN", &format!("{{hw:{shard}}}:in")]));
    let lengths: Vec<usize> = lengths.map(|length| length.trim().parse().unwrap()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), objects.len(), "{lengths:?}");
    assert!(lengths.iter().filter(|length| **length > 0).count() > 3, "{lengths:?}");
}

#[test]
fn the_document_s_rust_is_the_example() {
    let [rust] = examples("rust")[..] else { panic!("there is one example in Rust") };
    assert!(EXAMPLE.ends_with(rust), "docs/queue.md and examples/publish.rs have to say the same");
}

#[tokio::test]
async fn the_document_s_user_may_publish_and_nothing_else() {
    let redis = RedisServer::start_on_port(&["--save", "", "--appendonly", "no"]);
    let line = DOCUMENT.lines().find(|line| line.starts_with("ACL SETUSER application")).unwrap();
    assert_eq!(redis.command(&line.split(' ').collect::<Vec<_>>()), "OK\n");
    let folder = Folder::new();
    let login = "--no-auth-warning --user application --pass password";
    let typed = |lines: &str| type_lines(&folder, &redis, login, lines);
    assert!(typed(examples("sh")[0]).contains('-'));
    for refused in
        ["XADD other '*' event 1", "XRANGE '{hw:0}:in' - +", "DEL '{hw:0}:in'", "GET '{hw:0}:meta'"]
    {
        assert!(typed(&format!("redis-cli {refused} || true")).contains("NOPERM"), "{refused}");
    }
}

#[tokio::test]
async fn the_order_of_an_object_is_that_of_its_stream() {
    const EVENTS: usize = 60;
    let redis = RedisServer::start();
    let endpoint = ScriptedEndpoint::start([]).await;
    let ordered =
        definitions(&endpoint).replacen("[[event_rules]]", "ordering = \"object\"\n[[event_rules]]", 1);
    let folder = folder(&redis.url(), "shards = 2", &ordered);
    let add = |range: std::ops::Range<usize>| {
        for number in range {
            let object = number % 3;
            let event = json!({"event": "updated", "object_type": "dcim.site", "data": {"id": object, "number": number}});
            redis.command(&["XADD", &format!("{{hw:{}}}:in", object % 2), "*", "event", &event.to_string()]);
        }
    };
    add(0..EVENTS / 2);
    let workers =
        [(); 2].map(|()| Program::start("hookwire-worker", folder.path(), &["--config", "hookwire.toml"]));
    add(EVENTS / 2..EVENTS);
    endpoint.wait_for(EVENTS).await;
    let arrived = bodies(&endpoint);
    for object in 0..3 {
        let numbers: Vec<u64> = arrived
            .iter()
            .filter(|body| body["data"]["id"] == object)
            .map(|body| body["data"]["number"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (object..EVENTS as u64).step_by(3).collect::<Vec<_>>());
    }
    for worker in workers {
        assert_eq!(worker.terminate().await.code(), 0);
    }
}
