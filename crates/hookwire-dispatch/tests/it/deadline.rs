//! One deadline over everything, told by a paused clock.

use std::time::Duration;

use hookwire_dispatch::{AttemptOptions, AttemptReport, TlsProfile};
use hookwire_model::OutcomeKind;
use tokio::time::Instant;

use crate::support::{Net, Reach, Reply, attempt, following, options, post, summary};

const TENTH: Duration = Duration::from_millis(100);

/// Makes an attempt that the deadline of ten seconds ends, and says what came of it.
async fn too_slow(net: &Net, url: &str, options: &AttemptOptions) -> AttemptReport {
    let started = Instant::now();
    let report = attempt(net, &post(url), options).await;
    assert_eq!(started.elapsed(), Duration::from_secs(10), "{}", summary(&report));
    assert_eq!(report.duration, Duration::from_secs(10));
    report
}

#[tokio::test(start_paused = true)]
async fn each_phase_ends_at_the_deadline_and_is_named() {
    let mut lines = Vec::new();

    let net = Net::new([]);
    net.silence_names();
    let report = too_slow(&net, "http://hooks.example/", &options()).await;
    assert_eq!(report.timings.resolve, Some(Duration::from_secs(10)));
    lines.push(summary(&report));

    let net = Net::new([]).reach("192.0.2.1", Reach::Silent);
    let report = too_slow(&net, "http://192.0.2.1/", &options()).await;
    assert_eq!(report.timings.connect, Some(Duration::from_secs(10)));
    assert_eq!(report.address, Some("192.0.2.1:80".parse().unwrap()));
    lines.push(summary(&report));

    // The server waits for a request, and no ClientHello ends like one.
    let unchecked = hookwire_model::Tls { ssl_verification: false, ..Default::default() };
    let unchecked = AttemptOptions { tls: TlsProfile::load(&unchecked).unwrap(), ..options() };
    let report = too_slow(&Net::new([]), "https://192.0.2.1/", &unchecked).await;
    assert_eq!(report.timings.tls, Some(Duration::from_secs(10)));
    lines.push(summary(&report));

    let report = too_slow(&Net::new([Reply::Hang]), "http://192.0.2.1/", &options()).await;
    assert_eq!(report.timings.head, Some(Duration::from_secs(10)));
    lines.push(summary(&report));

    let head = b"HTTP/1.1 200 OK\r\nX-Header: ".repeat(5);
    let report = too_slow(&Net::new([Reply::Drip(head, TENTH)]), "http://192.0.2.1/", &options()).await;
    lines.push(summary(&report));

    let net = Net::new([Reply::response(302, "Location: http://192.0.2.2/\r\n", ""), Reply::Hang]);
    let net = net.reach("192.0.2.2", Reach::Silent);
    let report = too_slow(&net, "http://192.0.2.1/", &following()).await;
    assert_eq!(report.hops[0].address, Some("192.0.2.2:80".parse().unwrap()));
    assert_eq!(report.response, None, "the redirect is a hop, not the answer");
    lines.push(summary(&report));

    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_frees_its_slot_and_keeps_its_status() {
    for (status, kind) in [(200, OutcomeKind::Succeeded), (500, OutcomeKind::Rejected)] {
        let head = format!("HTTP/1.1 {status} S\r\nContent-Length: 1000\r\n\r\n");
        let net = Net::new([Reply::Drip([head.into_bytes(), vec![b'x'; 1000]].concat(), TENTH)]);
        let report = too_slow(&net, "http://192.0.2.1/", &options()).await;
        assert_eq!(report.outcome.kind(), kind);
        let error = report.error().unwrap();
        assert_eq!(
            (error.kind.as_str(), error.message.as_str()),
            ("response_body", "the response body did not end within 10s")
        );
        let response = report.response.as_ref().unwrap();
        assert!(response.truncated);
        // 100 bytes in 10 s, less the head; whether the last one counts is the clock's to say.
        assert!(response.body_base64.len().abs_diff(100 - 40) <= 1, "{}", response.body_base64.len());
        let timings = report.timings;
        assert_eq!(timings.head.unwrap() + timings.body.unwrap(), Duration::from_secs(10));
        net.until_closed(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_within_the_deadline_is_an_answer() {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let net = Net::new([Reply::Drip(response.to_vec(), TENTH)]);
    let report = attempt(&net, &post("http://192.0.2.1/"), &options()).await;
    assert_eq!(summary(&report), "succeeded 200; body \"done\"");
    assert_eq!(report.duration, TENTH * response.len() as u32);
    assert_eq!(report.timings.body, Some(TENTH * 4));
}

/// What a process finds that was stopped and goes on: timers long due, and answers that lie there unread.
#[tokio::test(start_paused = true)]
async fn what_came_while_the_process_stood_still_is_read() {
    let stand_still_for = async |seconds, answer: &str| {
        let answer = answer.as_bytes().to_vec();
        let net = Net::new([Reply::StandStill(Duration::from_secs(seconds), answer)]);
        let report = attempt(&net, &post("http://192.0.2.1/"), &options()).await;
        (summary(&report), report.duration)
    };
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
    let hour = Duration::from_secs(3_600);
    assert_eq!(stand_still_for(3_600, answer).await, ("succeeded 200; body \"done\"".to_owned(), hour));
    let silent = "unanswered; timeout: 192.0.2.1:80 did not answer within 10s";
    let (text, took) = stand_still_for(3_600, "").await;
    assert_eq!((text.as_str(), took > hour && took < hour + Duration::from_secs(1)), (silent, true));
    // What had not gone out by then does not go out: not what was dialled, and not what a redirect asks for.
    let net = Net::new([]).reach("192.0.2.1", Reach::StandsStill(hour));
    let text = summary(&attempt(&net, &post("http://192.0.2.1/"), &options()).await);
    assert_eq!(text, "unanswered; timeout: 192.0.2.1:80 did not take the connection within 10s");
    assert!(net.received().is_empty());
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.2/\r\nContent-Length: 0\r\n\r\n";
    let net = Net::new([Reply::StandStill(hour, redirect.into())]);
    let report = attempt(&net, &post("http://192.0.2.1/"), &following()).await;
    assert_eq!(
        (report.outcome.kind(), net.received().len()),
        (OutcomeKind::Unanswered, 1),
        "{}",
        summary(&report)
    );
    // A deadline that passes as it should.
    assert_eq!(stand_still_for(10, answer).await, (silent.to_owned(), Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn addresses_are_tried_in_order_and_a_silent_one_costs_little() {
    let dialled = |net: &Net| net.dialled().join(" ");
    let name = |addresses: &[&str]| Net::new([]).name("hooks.example", addresses);

    let net = name(&["192.0.2.1", "192.0.2.2", "192.0.2.3"])
        .reach("192.0.2.1", Reach::Refused)
        .reach("192.0.2.2", Reach::Silent);
    let report = attempt(&net, &post("http://hooks.example:8080/"), &options()).await;
    assert_eq!(summary(&report), "succeeded 200; body \"\"");
    assert_eq!(dialled(&net), "192.0.2.1:8080 192.0.2.2:8080 192.0.2.3:8080");
    assert_eq!(report.address, Some("192.0.2.3:8080".parse().unwrap()));
    assert_eq!(report.timings.connect, Some(Duration::from_millis(250)));

    // The first one is given up only when another has taken the connection.
    let net = name(&["192.0.2.1", "192.0.2.2"])
        .reach("192.0.2.1", Reach::Silent)
        .reach("192.0.2.2", Reach::Refused);
    let report = too_slow(&net, "http://hooks.example/", &options()).await;
    assert_eq!(summary(&report), "unanswered; timeout: 192.0.2.2:80 did not take the connection within 10s");

    let net = name(&["::1", "127.0.0.1"]).reach("::1", Reach::Refused).reach("127.0.0.1", Reach::Refused);
    let report = attempt(&net, &post("http://localhost/"), &options()).await;
    assert_eq!(summary(&report), "unanswered; dns: \"localhost\" can't be resolved: no such name");
    let net = net.name("localhost", &["::1", "127.0.0.1"]);
    let report = attempt(&net, &post("http://localhost/"), &options()).await;
    assert_eq!(
        summary(&report),
        "unanswered; connect: no connection: [::1]:80: connection refused; 127.0.0.1:80: connection refused"
    );

    let net = name(&[]);
    let report = attempt(&net, &post("http://hooks.example/"), &options()).await;
    assert_eq!(summary(&report), "unanswered; dns: \"hooks.example\" has no address");

    let many: Vec<String> = (1..=40).map(|number| format!("192.0.2.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut net = name(&many);
    for address in &many {
        net = net.reach(address, Reach::Refused);
    }
    attempt(&net, &post("http://hooks.example/"), &options()).await;
    assert_eq!(net.dialled().len(), 16, "there is a bound");
}
