//! Posts a line of JSON to a URL and prints what happened: `post http://localhost:9000/hook`.

use std::process::ExitCode;
use std::time::Duration;

use hookwire_dispatch::{AttemptOptions, Dispatch, DispatchSettings, HttpDispatcher, TlsProfile, record};
use hookwire_model::{Authority, Method, OutcomeKind, PreparedRequest, Timestamp};
use url::Url;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(request) = std::env::args().nth(1).and_then(|url| request(&url)) else {
        eprintln!("usage: post URL, as in: post http://localhost:9000/hook");
        return ExitCode::from(2);
    };
    let dispatcher = HttpDispatcher::new(DispatchSettings::default());
    let options = AttemptOptions {
        timeout: Duration::from_secs(10),
        tls: TlsProfile::system(),
        follow_redirects: false,
    };
    let report = dispatcher.attempt(&request, &options).await;
    let attempt = report.into_attempt(1, Timestamp::UNIX_EPOCH, Some(record(&request, true)));
    println!("{attempt:#?}");
    match attempt.outcome {
        OutcomeKind::Succeeded => ExitCode::SUCCESS,
        OutcomeKind::Rejected | OutcomeKind::Unanswered | OutcomeKind::Unsent => ExitCode::FAILURE,
    }
}

/// What a definition with this URL would come to.
fn request(url: &str) -> Option<PreparedRequest> {
    let url = Url::parse(url).ok()?;
    let authority = Authority {
        https: url.scheme() == "https",
        host: url.host_str()?.to_owned(),
        port: url.port_or_known_default()?,
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Some(PreparedRequest {
        method: Method::Post,
        authority,
        literal_host: true,
        target,
        headers: vec![("Content-Type".into(), "application/json".into())],
        masked_headers: vec![],
        body: r#"{"event": "created", "object_type": "dcim.site"}"#.into(),
    })
}
