//! What `docs/operations.md` tells people to do, done as it stands there.

use hookwire_testkit::{Program, ScriptedEndpoint, binary, eventually};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Folder, Server};

/// The commands of a section of the page, in order: the lines of its `console` blocks that begin with `$`.
fn commands(heading: &str) -> Vec<String> {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split_once(&format!("\n## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .flat_map(|block| block.lines().filter_map(|line| line.strip_prefix("$ ")))
        .map(str::to_owned)
        .collect()
}

/// Runs a command of the page in a folder: what stands for an id is filled in, and so are the addresses of this test.
struct Reader<'a> {
    folder: &'a Folder,
    replace: Vec<(&'a str, String)>,
}

impl Reader<'_> {
    /// What it printed, after its exit code.
    async fn run(&self, command: &str) -> (i32, String) {
        let mut command = command.to_owned();
        for (from, to) in &self.replace {
            command = command.replace(from, to);
        }
        let programs = binary("hookwire");
        let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", &command]).current_dir(self.folder.path()).env("PATH", path).env("NO_COLOR", "1");
        let ended = Program::start_command("sh", shell).wait().await;
        (ended.code(), ended.stdout + &ended.stderr)
    }
}

#[tokio::test]
async fn p18_what_to_check_when_nothing_arrives() {
    let commands = commands("Nothing arrives");
    let first_words: Vec<String> =
        commands.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        first_words,
        [
            "curl -X",
            "curl http://127.0.0.1:8080/readyz",
            "hookwire check",
            "curl http://127.0.0.1:8080/v1/stats",
            "hookwire stats",
            "curl http://127.0.0.1:8080/v1/events/ID",
            "hookwire explain",
            "hookwire preview",
            "hookwire deliveries",
            "hookwire deliveries",
            "hookwire dead",
        ],
        "the page has changed: see that this test still follows it"
    );
    let [receiver, ready, check, definitions, stats, event, explain, preview, list, show, dead] =
        &commands[..]
    else {
        unreachable!("there are eleven")
    };

    // The receiver of the page, on a port of its own; and an endpoint that refuses everything.
    let endpoint = ScriptedEndpoint::start([]).await;
    endpoint.otherwise(hookwire_testkit::Answer::Status(410));
    let folder = Folder::with(&format!(
        r#"
        [[webhooks]]
        name = "refusing"
        url = "{}"
        body_template = '{{"address": "{{{{ data.address }}}}"}}'
        [[event_rules]]
        name = "created"
        object_types = ["ipam.ipaddress"]
        event_types = ["created"]
        webhooks = ["refusing"]
        "#,
        endpoint.url("/hook")
    ));
    let event_json = |event: &str, id: &str| {
        format!(
            r#"{{"event": "{event}", "object_type": "ipam.ipaddress", "id": "{id}", "data": {{"id": 1, "address": "192.0.2.1/24"}}}}"#
        )
    };
    folder.write("event.json", &event_json("updated", "unmatched"));
    let shown = Program::start("webhook_receiver", folder.path(), &["--port", "0"]);
    let banner = shown.wait_for_output("its banner", |text| text.contains("Stop with")).await;
    let port = banner.split_once("localhost:").unwrap().1.split('.').next().unwrap().to_owned();
    let server = Server::start(&folder).await;
    // So that commands find the server where the configuration says that it listens.
    let config = std::fs::read_to_string(folder.path().join("hookwire.toml")).unwrap();
    folder.write("hookwire.toml", &config.replace("127.0.0.1:0", &server.address.to_string()));
    server.publish(&event_json("updated", "unmatched")).await;
    let mut reader = Reader {
        folder: &folder,
        replace: vec![
            ("localhost:9000", format!("localhost:{port}")),
            ("127.0.0.1:8080", server.address.to_string()),
            ("/ID", "/unmatched".into()),
        ],
    };

    // 1: the receiver shows what it gets.
    let (code, printed) = reader.run(receiver).await;
    assert_eq!(code, 0, "{printed}");
    shown.wait_for_output("the request", |text| text.contains("{\"foo\": \"bar\"}")).await;
    // 2, 3: the worker runs, with the definitions that are meant.
    let (code, printed) = reader.run(ready).await;
    assert!(code == 0 && printed.contains("ready"), "{printed}");
    let (code, printed) = reader.run(check).await;
    assert!(code == 0 && printed.contains("sound"), "{printed}");
    let (code, printed) = reader.run(definitions).await;
    assert!(code == 0 && printed.contains(r#""refused":null"#), "{printed}");
    // 4: the event came in, was fanned out, and nobody gets it.
    let (code, printed) = reader.run(stats).await;
    assert!(code == 0 && printed.contains("events queued"), "{printed}");
    eventually("the event is fanned out", async || {
        let (code, printed) = reader.run(event).await;
        assert_eq!(code, 0);
        let start = printed.find('{').expect("a JSON answer");
        let mut values = serde_json::Deserializer::from_str(&printed[start..]).into_iter::<Value>();
        let answer = values.next().unwrap().unwrap();
        (answer["state"] == "fanned_out" && answer["deliveries"] == Value::Array(vec![])).then_some(())
    })
    .await;
    // 5: why no rule matched.
    let (code, printed) = reader.run(explain).await;
    assert!(code == 0 && printed.contains("the rule is for created, the event is updated"), "{printed}");
    // 6: what would be sent, had it been the other event.
    folder.write("event.json", &event_json("created", "matched"));
    let (code, printed) = reader.run(preview).await;
    assert!(code == 0 && printed.contains(r#"{"address": "192.0.2.1/24"}"#), "{printed}");
    // 7: what happened.
    server.publish(&event_json("created", "matched")).await;
    let delivery = server.deliveries("dead", 1).await[0]["id"].as_str().unwrap().to_owned();
    reader.replace.insert(0, ("--event-id ID", "--event-id matched".into()));
    reader.replace.push(("DELIVERY", delivery.clone()));
    let (code, printed) = reader.run(list).await;
    assert!(code == 0 && printed.contains(&delivery), "{printed}");
    let (code, printed) = reader.run(show).await;
    assert!(code == 0 && printed.contains("attempt 1") && printed.contains("410"), "{printed}");
    // 8: that it was given up, and why.
    let (code, printed) = reader.run(dead).await;
    assert!(code == 0 && printed.contains(&delivery) && printed.contains("gone"), "{printed}");

    assert_eq!(server.program.terminate().await.code(), 0);
    shown.terminate().await;
}

#[tokio::test]
async fn whoever_waits_for_a_store_says_so_and_can_be_stopped() {
    let folder = Folder::with("");
    let missing = format!("unix://{}", folder.path().join("no-redis").display());
    let server = Server::start(&folder).await;
    let own_port = ["--listen", "127.0.0.1:0"];
    for (arguments, told) in [
        (&["serve", "--store", &missing, own_port[0], own_port[1]][..], "the store cannot be opened yet"),
        (&["worker", "--store", &missing], "the store cannot be opened yet"),
        (&["serve", own_port[0], own_port[1]], "another process has the store"),
    ] {
        let waits = Program::start("hookwire", folder.path(), arguments);
        eventually(told, async || waits.stderr().contains(told).then_some(())).await;
        let ended = waits.terminate().await;
        assert_eq!(ended.code(), 0, "{arguments:?}: {ended:?}");
    }
    server.program.terminate().await;
}
