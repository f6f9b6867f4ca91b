//! What differs for all definitions alike: settings of NetBox's that its API does not tell, and defaults.

use crate::Definitions;
use crate::finding::{Effect, Finding, Subject};

/// Told once, whatever was imported. NetBox's API may tell the action data of rules one day; 4.6 does not.
pub(crate) fn findings(definitions: &Definitions, tells_action_data: bool) -> Vec<Finding> {
    let differs = |message: &str| Finding::new(Subject::All, Effect::Differs, message);
    let mut findings = Vec::new();
    if !definitions.webhooks.is_empty() {
        findings.extend([
            differs("NetBox follows redirects; here a redirect is a failed attempt")
                .remedy("to follow them, add to a webhook:")
                .line("follow_redirects = true"),
            differs("NetBox tries once, unless its setting RQ_RETRY_MAX says otherwise; here ten times over three days")
                .remedy("for one attempt, add to a webhook:")
                .line("retry = { max_attempts = 1 }"),
            differs("NetBox waits for a receiver as long as its setting RQ_DEFAULT_TIMEOUT says; here 10 s")
                .remedy("for NetBox's default, add to a webhook:")
                .line("timeout = \"5m\""),
            differs("NetBox's settings HTTP_PROXIES and PROXY_ROUTERS are not part of its API, and there are no proxies here")
                .remedy("hookwire has to reach the receivers itself"),
        ]);
    }
    if tells_action_data {
        return findings;
    }
    let message = "NetBox's API does not tell the action data of event rules";
    findings.push(
        Finding::new(Subject::All, Effect::LeftOut, message)
            .remedy("where a rule has some (see its page in NetBox), add it to the rule, for example:")
            .line("action_data = { team = \"noc\" }"),
    );
    findings
}

/// The lines at the top of the file.
pub(crate) fn heading(definitions: &Definitions, findings: &[Finding]) -> Vec<String> {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut lines = vec![
        format!(
            "Imported from NetBox: {}, {}.",
            count(definitions.webhooks.len(), "webhook"),
            count(definitions.event_rules.len(), "event rule")
        ),
        String::new(),
        "The templates are NetBox's and render to the same bytes. What differs for all of them:".to_owned(),
        String::new(),
    ];
    lines.extend(findings.iter().flat_map(Finding::comment));
    lines
}
