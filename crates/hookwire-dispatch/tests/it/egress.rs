//! Which addresses are dialled. The dialler records and gives a pipe, so no packet leaves.

use hookwire_dispatch::{AttemptReport, Dispatch, DispatchSettings, EgressMode};
use hookwire_model::{ErrorKind, Outcome, PreparedRequest};

use crate::support::{Net, Reach, Reply, attempt, following, options, post, summary, templated};

/// The addresses that a request is dialled to, or `refused`.
async fn check(net: &Net, request: &PreparedRequest, settings: &DispatchSettings) -> String {
    let before = net.dialled().len();
    let report = net.dispatcher_with(settings.clone()).attempt(request, &options()).await;
    let dialled = net.dialled()[before..].join(" ");
    match &report.outcome {
        Outcome::Unsent(error) => {
            assert_eq!((error.kind, dialled.as_str()), (ErrorKind::Egress, ""), "nothing is dialled");
            assert_eq!(report.address, None);
            "refused".into()
        }
        Outcome::Answered { .. } | Outcome::Unanswered(_) => dialled,
    }
}

#[tokio::test(start_paused = true)]
async fn the_address_decides_not_the_name() {
    let net = Net::new([])
        .name("public.example", &["8.8.8.8"])
        .name("inside.example", &["10.0.0.7"])
        .name("metadata.example", &["169.254.169.254"])
        .name("rebound.example", &["127.0.0.1"])
        .name("mixed.example", &["169.254.169.254", "10.0.0.7", "8.8.8.8", "fe80::1"])
        .name("localhost", &["::1", "127.0.0.1"]);
    let default = DispatchSettings::default();
    let mut public_only = default.clone();
    public_only.egress.mode = EgressMode::PublicOnly;
    for (url, literal, from_template, public) in [
        ("http://public.example/", "8.8.8.8:80", "8.8.8.8:80", "8.8.8.8:80"),
        ("http://inside.example/", "10.0.0.7:80", "refused", "refused"),
        ("http://metadata.example/", "refused", "refused", "refused"),
        ("http://rebound.example/", "refused", "refused", "refused"),
        ("http://mixed.example/", "10.0.0.7:80", "8.8.8.8:80", "8.8.8.8:80"),
        ("http://localhost:9000/", "[::1]:9000", "refused", "refused"),
        ("http://127.0.0.1:9000/", "127.0.0.1:9000", "refused", "refused"),
        ("http://[::ffff:127.0.0.1]:9000/", "[::ffff:127.0.0.1]:9000", "refused", "refused"),
        ("http://10.0.0.7/", "10.0.0.7:80", "refused", "refused"),
        ("http://169.254.169.254/", "refused", "refused", "refused"),
        ("http://[::ffff:169.254.169.254]/", "refused", "refused", "refused"),
        ("http://0.0.0.0/", "refused", "refused", "refused"),
    ] {
        assert_eq!(check(&net, &post(url), &default).await, literal, "{url}");
        assert_eq!(check(&net, &templated(url), &default).await, from_template, "{url}");
        assert_eq!(check(&net, &post(url), &public_only).await, public, "{url}");
    }
    assert!(!net.resolved().iter().any(|name| name.starts_with(|c: char| c.is_ascii_digit() || c == '[')));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_its_remedy() {
    let net = Net::new([]).name("inside.example", &["10.0.0.7", "192.168.0.7"]);
    let report = attempt(&net, &templated("http://inside.example/"), &options()).await;
    insta::assert_snapshot!(summary(&report));
}

#[tokio::test(start_paused = true)]
async fn another_address_of_a_name_that_moved_is_decided_on_anew() {
    let net =
        Net::new([Reply::response(200, "Connection: close\r\n", "")]).name("moves.example", &["8.8.8.8"]);
    let dispatcher = net.dispatcher();
    let request = templated("http://moves.example/");
    assert_eq!(summary(&dispatcher.attempt(&request, &options()).await), "succeeded 200; body \"\"");
    let net = net.name("moves.example", &["169.254.169.254"]);
    let report = dispatcher.attempt(&request, &options()).await;
    assert!(matches!(&report.outcome, Outcome::Unsent(error) if error.kind == ErrorKind::Egress));
    assert_eq!(net.dialled(), ["8.8.8.8:80"]);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_trusted_with_nothing_but_its_own_place() {
    async fn redirected(to: &str) -> (AttemptReport, Vec<String>) {
        let net = Net::new([Reply::response(307, &format!("Location: {to}\r\n"), "")])
            .name("inside.example", &["10.0.0.7"])
            .name("other.example", &["10.0.0.8"])
            .name("public.example", &["8.8.8.8"])
            .name("localhost", &["127.0.0.1"])
            .reach("127.0.0.1", Reach::Refused);
        let report = attempt(&net, &post("http://inside.example/"), &following()).await;
        assert_eq!(report.hops.len(), 1);
        (report, net.dialled())
    }
    for to in [
        "http://other.example/",
        "http://10.0.0.7/",
        "http://inside.example:8080/",
        "http://localhost/",
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
    ] {
        let (report, dialled) = redirected(to).await;
        assert!(matches!(&report.outcome, Outcome::Unsent(error) if error.kind == ErrorKind::Egress), "{to}");
        assert_eq!(dialled, ["10.0.0.7:80"], "{to}");
        assert_eq!((report.hops[0].url.as_str(), report.hops[0].address), (to, None));
    }
    for (to, dialled_then) in [("/elsewhere", None), ("http://public.example/", Some("8.8.8.8:80"))] {
        let (report, dialled) = redirected(to).await;
        assert_eq!(summary(&report), "succeeded 200; body \"\"", "{to}");
        assert_eq!(dialled.get(1).map(String::as_str), dialled_then, "{to}");
    }
}
