//! `hookwire dev`: the first thing that anybody runs.

use hookwire_testkit::{Program, Signal};
use tokio::net::TcpListener;

use crate::support::{Folder, snapshots};

#[tokio::test]
async fn p15_p18_dev_shows_a_request_its_record_and_the_next_step() {
    let folder = Folder::new();
    let arguments = ["--log", "error", "dev", "--port", "0", "--receiver-port", "0"];
    let program = Program::start("hookwire", folder.path(), &arguments);
    let shown = |stdout: &str| stdout.contains("curl") && stdout.ends_with("Stop with CONTROL-C.\n");
    let output = program.wait_for_output("the next step", shown).await;
    // It is asked whatever store is configured, since nobody has a configuration yet.
    let (_, url) = output.split_once("curl ").unwrap();
    let address = url.split_once("://").unwrap().1.split('/').next().unwrap();
    let stats = folder.hookwire(&["stats", "--listen", address]).await;
    assert_eq!((stats.code(), stats.stderr.as_str()), (0, ""), "{stats:?}");
    program.signal(Signal::INT);
    let ended = program.wait().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.starts_with("Listening on port http://localhost:"), "{}", ended.stdout);
    let _snapshots = snapshots(&folder);
    // The signature and the digest are of a body that is the same each time, but nobody reads them.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("[0-9a-f]{128}", "[signature]");
    settings.add_filter("[0-9a-f]{64}", "[digest]");
    settings.bind(|| insta::assert_snapshot!("dev", ended.stdout));
}

#[tokio::test]
async fn dev_takes_other_ports_where_its_own_are_taken() {
    let folder = Folder::new();
    let taken =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let ports = taken.each_ref().map(|taken| taken.local_addr().unwrap().port().to_string());
    let arguments = ["--log", "error", "dev", "--port", &ports[0], "--receiver-port", &ports[1]];
    let program = Program::start("hookwire", folder.path(), &arguments);
    program.wait_for_output("the next step", |stdout| stdout.contains("/v1/deliveries")).await;
    let ended = program.terminate().await;
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(
        ended.stderr,
        format!(
            "port {} is taken; the receiver takes another\nport {} is taken; the server takes another\n",
            ports[1], ports[0]
        )
    );
    for port in ports {
        assert!(!ended.stdout.contains(&format!(":{port}")), "{}", ended.stdout);
    }
}
