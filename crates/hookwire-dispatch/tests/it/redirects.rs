//! Redirects over the wire; the rules themselves are tested where they are.

use hookwire_dispatch::Dispatch;
use hookwire_model::Outcome;

use crate::support::{Net, Reply, attempt, following, options, post, summary};

#[tokio::test(start_paused = true)]
async fn a_chain_is_followed_and_recorded() {
    let net = Net::new([
        Reply::response(302, "Location: /second?x=1#part\r\n", "see there"),
        Reply::response(307, "Location: http://8.8.4.4:8080/third\r\n", ""),
        Reply::response(201, "", "done"),
    ]);
    let mut request = post("http://8.8.8.8/first");
    request.headers.push(("Authorization".into(), "Token t".into()));
    request.headers.push(("X-Hook-Signature".into(), "abc".into()));
    let report = attempt(&net, &request, &following()).await;

    assert_eq!(summary(&report), "succeeded 201; body \"done\"");
    assert_eq!(report.address, Some("8.8.8.8:80".parse().unwrap()));
    let hops = report.hops.iter().map(|hop| format!("{} {} {:?}", hop.status, hop.url, hop.address));
    assert_eq!(
        hops.collect::<Vec<_>>(),
        [
            "302 http://8.8.8.8/second?x=1 Some(8.8.8.8:80)",
            "307 http://8.8.4.4:8080/third Some(8.8.4.4:8080)"
        ]
    );
    let received = net.received().into_iter().map(|request| {
        let body = String::from_utf8(request.body).unwrap();
        format!("{} to {}\n{}{body}\n", request.connection, request.address, request.head)
    });
    insta::assert_snapshot!(received.collect::<String>().replace('\r', ""));
}

#[tokio::test(start_paused = true)]
async fn without_the_wish_a_redirect_is_an_answer() {
    let net = Net::new([Reply::response(301, "Location: /elsewhere\r\n", "")]);
    let report = attempt(&net, &post("http://8.8.8.8/"), &options()).await;
    assert_eq!(report.outcome, Outcome::Answered { status: 301, retry_after: None });
    assert_eq!((report.hops.len(), net.received().len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn redirects_without_end_end() {
    let net = Net::new((0..40).map(|_| Reply::response(302, "Location: /loop\r\n", "")));
    let report = attempt(&net, &post("http://8.8.8.8/loop"), &following()).await;
    assert_eq!(summary(&report), "rejected 302; redirect: more than 30 redirects; body \"\"");
    assert_eq!((report.hops.len(), net.received().len()), (30, 31));
    assert_eq!(net.dialled().len(), 1, "all over one connection");
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_nowhere_says_so() {
    for (location, expected) in [
        (
            "Location: ftp://8.8.4.4/\r\n",
            "rejected 302; redirect: status 302 leads to \"ftp\", which is not HTTP; body \"\"",
        ),
        (
            "Location: http://\r\n",
            "rejected 302; redirect: status 302 leads to no URL: empty host; body \"\"",
        ),
        ("", "rejected 302; body \"\""),
    ] {
        let net = Net::new([Reply::response(302, location, "")]);
        assert_eq!(summary(&attempt(&net, &post("http://8.8.8.8/"), &following()).await), expected);
    }
    // A redirect whose own body breaks off leads on all the same.
    let net = Net::new([Reply::SendAndClose(
        b"HTTP/1.1 302 F\r\nLocation: /there\r\nContent-Length: 9\r\n\r\nhalf".to_vec(),
    )]);
    let report = net.dispatcher().attempt(&post("http://8.8.8.8/"), &following()).await;
    assert_eq!(summary(&report), "succeeded 200; body \"\"");
    assert_eq!(net.connections(), [1, 2]);
}
