//! Configurations from the outside: what loads, and every message that a person reads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookwire_config::{
    Config, Diagnostics, EgressMode, LoadError, NOT_YET, Overrides, SETTINGS, StoreUrl, Style, load,
    load_sound, load_to_look, show,
};
use hookwire_model::{OnFailure, Ordering, Schedule, SignatureScheme, WebhookName};

/// A folder with files, an environment, and flags.
struct Case {
    folder: tempfile::TempDir,
    env: HashMap<&'static str, &'static str>,
    overrides: Overrides,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Case {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Case { folder, env: HashMap::new(), overrides: Overrides::new() }
    }

    fn toml(text: &str) -> Case {
        Case::new(&[("hookwire.toml", text)])
    }

    fn env(mut self, name: &'static str, value: &'static str) -> Case {
        self.env.insert(name, value);
        self
    }

    fn flag(mut self, path: &str, flag: &str, value: &str) -> Case {
        self.overrides = self.overrides.with(path, flag, value);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn load(&self) -> Result<Config, LoadError> {
        let env = |name: &str| self.env.get(name).map(|value| (*value).to_owned());
        load(&[self.folder.path().to_owned()], &env, &self.overrides)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    fn diagnostics(&self) -> Diagnostics {
        match self.load() {
            Err(LoadError::Invalid(diagnostics)) => diagnostics,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("this should be refused"),
        }
    }

    /// What a person reads, with the folder left out.
    fn refusal(&self) -> String {
        self.shown(&self.diagnostics())
    }

    fn shown(&self, diagnostics: &Diagnostics) -> String {
        // Wide, so that the length of the folder's name does not move line ends.
        let text = diagnostics.render(Style { color: false, width: 400 });
        let folder = format!("{}/", self.folder.path().display());
        text.replace(&folder, "").lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

const SLACK: &str = r#"
[[webhooks]]
name = "slack"
url = "https://hooks.slack.example/services/T000/B000/XXX"
body_template = '{"text": "IP address {{ data.address }} was created by {{ username }}!"}'

[[event_rules]]
name = "ip-created"
object_types = ["ipam.ipaddress"]
event_types = ["created"]
conditions = { and = [ { attr = "status.value", value = "active" } ] }
webhooks = ["slack"]
"#;

fn webhook(config: &Config, name: &str) -> hookwire_model::Webhook {
    config.definitions.webhook(&WebhookName::new(name).unwrap()).unwrap().webhook().clone()
}

#[test]
fn ten_lines_are_a_configuration() {
    let config = Case::toml(SLACK).config();
    let slack = webhook(&config, "slack");
    let defaults = hookwire_model::Webhook {
        body_template: slack.body_template.clone(),
        ..hookwire_model::Webhook::new(slack.name.clone(), slack.url.clone())
    };
    assert_eq!(slack, defaults);
    assert!(config.warnings.is_empty());
    let rules: Vec<_> = config.definitions.rules().collect();
    assert_eq!(
        rules[0].conditions.as_ref().unwrap().to_string(),
        r#"{"and":[{"attr":"status.value","value":"active"}]}"#
    );
}

#[test]
fn every_member_of_a_webhook_is_read() {
    let case = Case::new(&[
        (
            "hookwire.toml",
            r#"
            [[webhooks]]
            name = "all"
            url = "https://example.org/{{ data.id }}"
            method = "PUT"
            content_type = "application/x-www-form-urlencoded"
            additional_headers = """
X-Object: {{ object_type }}
"""
            body_template = "a={{ data.name }}"
            template_engine = "jinja"
            escape = "none"
            undefined = "lenient"
            default_body = "netbox"
            secret_env = "SLACK_SECRET"
            previous_secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", { secret_file = "old" }]
            signature = ["netbox", "standard"]
            ssl_verification = false
            ca_file = "ca.pem"
            client_cert = "cert.pem"
            client_key = "key.pem"
            timeout = "1m30s"
            follow_redirects = true
            enabled = false
            concurrency = 7
            ordering = "object"
            on_failure = "supersede"
            rate_limit = "600/m"
            retry = { max_attempts = 3, schedule = ["1s", "2m"], jitter = 0.5, max_age = "1d" }

            [[webhooks]]
            name = "growing"
            url = "http://localhost/"
            signature = "standard"
            secret_file = "old"
            retry = { initial = "2s", factor = 3, max_delay = "1h" }
            "#,
        ),
        ("old", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n"),
        ("ca.pem", ""),
        ("cert.pem", ""),
        ("key.pem", ""),
    ])
    .env("SLACK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let config = case.config();
    let all = webhook(&config, "all");
    let words = [
        all.method.as_str(),
        all.template_engine.as_str(),
        all.escape.as_str(),
        all.undefined.as_str(),
        all.default_body.as_str(),
    ];
    assert_eq!(words, ["PUT", "jinja", "none", "lenient", "netbox"]);
    assert_eq!(all.content_type, "application/x-www-form-urlencoded");
    assert_eq!(all.additional_headers, "X-Object: {{ object_type }}\n");
    assert_eq!(all.signature, [SignatureScheme::Netbox, SignatureScheme::Standard]);
    assert_eq!((all.ordering, all.on_failure), (Ordering::Object, OnFailure::Supersede));
    assert_eq!(all.rate_limit.map(|limit| limit.to_string()).as_deref(), Some("600/m"));
    let secrets: Vec<&str> = all.secrets.iter().map(|secret| secret.expose()).collect();
    assert_eq!(
        secrets,
        [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
        ]
    );
    assert_eq!((all.tls.ssl_verification, all.tls.ca_file.as_deref()), (false, Some(&*case.path("ca.pem"))));
    assert_eq!(
        (all.tls.client_cert, all.tls.client_key),
        (Some(case.path("cert.pem")), Some(case.path("key.pem")))
    );
    assert_eq!((all.timeout, all.follow_redirects, all.enabled), (Duration::from_secs(90), true, false));
    assert_eq!((all.concurrency.get(), all.retry.max_attempts.get(), all.retry.jitter), (7, 3, 0.5));
    assert_eq!(all.retry.schedule, Schedule::Steps([1, 120].map(Duration::from_secs).into()));
    assert_eq!(all.retry.max_age, Some(Duration::from_secs(86_400)));
    let growing = Schedule::Exponential {
        initial: Duration::from_secs(2),
        factor: 3.0,
        max_delay: Duration::from_secs(3_600),
    };
    assert_eq!(webhook(&config, "growing").retry.schedule, growing);
    let warnings: Vec<&str> = config.warnings.iter().map(|warning| warning.path).collect();
    assert_eq!(warnings, [r#"webhooks["all"]"#, r#"webhooks["growing"]"#], "no rule names them");
}

#[test]
fn json_says_the_same_as_toml() {
    let json = r#"{
        "webhooks": [{
            "name": "slack",
            "url": "https://hooks.slack.example/services/T000/B000/XXX",
            "secret": null,
            "body_template": "{\"text\": \"IP address {{ data.address }} was created by {{ username }}!\"}"
        }],
        "event_rules": [{
            "name": "ip-created",
            "object_types": ["ipam.ipaddress"],
            "event_types": ["created"],
            "conditions": {"and": [{"attr": "status.value", "value": "active"}]},
            "webhooks": ["slack"]
        }]
    }"#;
    let (json, toml) = (Case::new(&[("hookwire.json", json)]).config(), Case::toml(SLACK).config());
    assert_eq!(webhook(&json, "slack"), webhook(&toml, "slack"));
    assert!(json.definitions.rules().eq(toml.definitions.rules()));
}

#[test]
fn conditions_and_action_data_may_be_json_in_a_string() {
    let rule = |conditions: &str, action_data: &str| {
        let text = SLACK.replace(r#"{ and = [ { attr = "status.value", value = "active" } ] }"#, conditions);
        let config = Case::toml(&format!("{text}action_data = {action_data}\n")).config();
        let rule = config.definitions.rules().next().unwrap().clone();
        (
            rule.conditions.map(|condition| condition.to_string()),
            serde_json::to_string(&rule.action_data).unwrap(),
        )
    };
    assert_eq!(
        rule(
            r#"'{"attr": "a", "value": null}'"#,
            r#"'{"z": 123456789012345678901234567890, "a": 1.0, "n": null}'"#
        ),
        (
            Some(r#"{"attr":"a","value":null}"#.to_owned()),
            r#"{"z":123456789012345678901234567890,"a":1.0,"n":null}"#.to_owned()
        )
    );
    assert_eq!(rule(r#""""#, "{ z = 1, a = { b = 2.50 } }"), (None, r#"{"z":1,"a":{"b":2.50}}"#.to_owned()));
    assert_eq!(rule("{}", "''"), (None, "{}".to_owned()));
}

#[test]
fn a_folder_is_merged() {
    let (webhooks, rules) = SLACK.split_at(SLACK.find("[[event_rules]]").unwrap());
    let case = Case::new(&[
        ("10-webhooks.toml", webhooks),
        ("20-rules.toml", rules),
        ("30-store.json", r#"{"store": {"url": "memory:"}}"#),
        ("40-store.toml", "[store]\ndedup_window = '2h'"),
        ("notes.txt", "not read"),
        (".hidden.toml", "not read"),
    ]);
    let config = case.config();
    assert_eq!(config.definitions.rules().count(), 1);
    assert_eq!(
        (config.settings.store.url, config.settings.store.dedup_window.as_secs()),
        (StoreUrl::Memory, 7_200)
    );
}

#[test]
fn without_files_the_defaults_hold() {
    let settings = load(&[], &|_| None, &Overrides::new()).unwrap().settings;
    insta::assert_debug_snapshot!(settings);
}

#[test]
fn every_setting_can_be_set_in_the_file_and_in_the_environment() {
    let values = [
        ("store.url", "\"rediss://u:p@localhost/1\"", "rediss://u:p@localhost/1"),
        ("store.shards", "3", "3"),
        ("store.wait_replicas", "2", "2"),
        ("store.dedup_window", "\"2h\"", "2h"),
        ("store.dedup_max_ids", "5", "5"),
        ("store.max_pending_bytes", "\"2GiB\"", "2GiB"),
        ("store.ca_file", "\"/etc/ca.pem\"", "/etc/ca.pem"),
        ("store.client_cert", "\"/etc/cert.pem\"", "/etc/cert.pem"),
        ("store.client_key", "\"/etc/key.pem\"", "/etc/key.pem"),
        ("store.max_backlog_bytes", "\"1GiB\"", "1GiB"),
        ("store.max_backlog_age", "\"5d\"", "5d"),
        ("server.listen", "\"[::1]:9999\"", "[::1]:9999"),
        ("server.admin_token_env", "\"ADMIN\"", "ADMIN"),
        ("server.read_token_env", "\"READ\"", "READ"),
        ("server.max_event_bytes", "\"2MiB\"", "2MiB"),
        ("worker.concurrency", "9", "9"),
        ("worker.lease", "\"20s\"", "20s"),
        ("worker.grace", "\"21s\"", "21s"),
        ("worker.listen", "\"127.0.0.1:9998\"", "127.0.0.1:9998"),
        ("egress.mode", "\"public-only\"", "public-only"),
        ("egress.allow", "[\"10.0.0.0/8\", \".example.org\"]", "10.0.0.0/8, .example.org"),
        ("egress.deny", "[\"::1\"]", "::1"),
        ("history.max_age", "\"3d\"", "3d"),
        ("history.max_bytes", "\"3GiB\"", "3GiB"),
        ("history.bodies", "true", "true"),
    ];
    let mut text = String::new();
    let mut env: HashMap<String, String> =
        HashMap::from([("ADMIN".into(), "a-token".into()), ("READ".into(), "r-token".into())]);
    let file_env = env.clone();
    let mut section = "";
    for (path, toml, plain) in values {
        let (of, member) = path.split_once('.').unwrap();
        if of != section {
            text += &format!("[{of}]\n");
            section = of;
        }
        text += &format!("{member} = {toml}\n");
        let row = SETTINGS.iter().find(|row| row.path == path).unwrap();
        env.insert(row.env(), plain.into());
    }
    let case = Case::toml(&text);
    let from_file =
        load(&[case.path("hookwire.toml")], &|name| file_env.get(name).cloned(), &Overrides::new());
    let from_env = load(&[], &|name| env.get(name).cloned(), &Overrides::new());
    let (from_file, from_env) = (from_file.unwrap().settings, from_env.unwrap().settings);
    assert_eq!(from_file, from_env);
    assert_ne!(from_file, load(&[], &|_| None, &Overrides::new()).unwrap().settings);
    assert_eq!(from_file.egress.mode, EgressMode::PublicOnly);
    // The two tokens by file are in a test of their own.
    assert_eq!(SETTINGS.len(), values.len() + 2);
}

#[test]
fn a_redis_store_is_named_without_its_password_and_finds_its_own_limits() {
    for (url, shown) in [
        ("redis://user:s3cret@localhost:6379/0", "redis://localhost:6379/0"),
        ("rediss://localhost", "rediss://localhost"),
        ("unix:///run/redis.sock?db=1&pass=s3cret", "unix:///run/redis.sock?db=1"),
        ("redis-cluster://:s3cret@a:1,b:2", "redis-cluster://a:1,b:2"),
    ] {
        let case = Case::toml(&format!("[store]\nurl = '{url}'\nshards = 3"));
        let settings = case.config().settings;
        assert_eq!((settings.store.url.to_string().as_str(), settings.store.shards), (shown, 3));
        assert_eq!((settings.store.max_pending_bytes, settings.history.max_bytes), (None, None));
        assert!(!format!("{settings:?}").contains("s3cret"));
        let shown = show(&[case.path("hookwire.toml")], &|_| None, &Overrides::new()).unwrap();
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
    }
    let case = Case::toml("[store]\nurl = 'redis://x'\nmax_pending_bytes = '1GiB'");
    assert_eq!(case.config().settings.store.max_pending_bytes, Some(1 << 30));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let listen = |case: Case| case.config().settings.server.listen.to_string();
    let case = || Case::toml("[server]\nlisten = \"127.0.0.1:1\"");
    assert_eq!(listen(case()), "127.0.0.1:1");
    assert_eq!(listen(case().env("HOOKWIRE_SERVER_LISTEN", "127.0.0.1:2")), "127.0.0.1:2");
    assert_eq!(listen(case().env("HOOKWIRE_SERVER_LISTEN", "")), "127.0.0.1:1");
    let flag =
        case().env("HOOKWIRE_SERVER_LISTEN", "127.0.0.1:2").flag("server.listen", "--listen", "localhost:3");
    assert_eq!(listen(flag), "127.0.0.1:3");
}

#[test]
fn who_only_looks_needs_no_secrets() {
    let case = Case::toml(
        r#"
        [server]
        listen = "0.0.0.0:8080"
        admin_token_env = "MISSING"
        read_token_file = "missing"
        [[webhooks]]
        name = "a"
        url = "https://hooks.example.org/"
        signature = ["standard"]
        secret_env = "MISSING"
        previous_secrets = [{ secret_file = "missing" }]
        ca_file = "missing"
        [[event_rules]]
        name = "r"
        object_types = ["*"]
        event_types = ["*"]
        webhooks = ["a"]
        "#,
    );
    assert!(case.load().is_err());
    let paths = [case.path("hookwire.toml")];
    let (config, problems) = load_to_look(&paths, &|_| None, &Overrides::new()).unwrap();
    assert!(problems.is_empty(), "{problems}");
    assert_eq!(config.definitions.webhooks().count(), 1);
    assert!(config.settings.server.admin_token.is_some());
    // What is wrong with the settings themselves is still told.
    let wrong = Overrides::new().with("store.url", "--store", "nonsense:");
    assert!(load_to_look(&paths, &|_| None, &wrong).is_err());
}

#[test]
fn paths_are_relative_to_where_they_stand() {
    let case = Case::new(&[("hookwire.toml", "[store]\nurl = \"embedded:./data\""), ("token", " t0ken \n")]);
    assert_eq!(case.config().settings.store.url, StoreUrl::Embedded(case.path("./data")));
    let flag = case.flag("store.url", "--store", "embedded:./data");
    assert_eq!(flag.config().settings.store.url, StoreUrl::Embedded("./data".into()));
    let case = Case::new(&[
        ("hookwire.toml", "[server]\nlisten = \"0.0.0.0:80\"\nadmin_token_file = \"token\""),
        ("token", " t0ken \n"),
    ]);
    assert_eq!(case.config().settings.server.admin_token.unwrap().expose(), "t0ken");
}

#[test]
fn the_grace_period_follows_the_longest_timeout() {
    let grace = |text: &str| {
        let config = Case::toml(text).config();
        config.settings.worker.grace.unwrap_or_else(|| config.definitions.grace()).as_secs()
    };
    assert_eq!(grace(SLACK), 11);
    assert_eq!(grace(&SLACK.replace("name = \"slack\"\n", "name = \"slack\"\ntimeout = \"1m\"\n")), 61);
    assert_eq!(grace(&format!("{SLACK}[worker]\ngrace = \"5s\"")), 5);
    // Nobody changed it who changed a timeout.
    let settings = |text: &str| Case::toml(text).config().settings;
    let slow = SLACK.replace("name = \"slack\"\n", "name = \"slack\"\ntimeout = \"1m\"\n");
    let set = format!("{slow}[worker]\ngrace = \"5s\"");
    assert_eq!(settings(SLACK).differences(&settings(&slow)), [""; 0]);
    assert_eq!(settings(SLACK).differences(&settings(&set)), ["worker.grace"]);
    assert_eq!(settings(&set).differences(&settings(SLACK)), ["worker.grace"]);
}

#[test]
fn the_table_of_settings_agrees_with_itself() {
    for row in SETTINGS {
        assert!(row.description.ends_with('.'), "{}", row.path);
        assert!(row.env().starts_with("HOOKWIRE_"), "{}", row.path);
        assert_eq!(SETTINGS.iter().filter(|other| other.env() == row.env()).count(), 1, "{}", row.path);
    }
    let table: Vec<String> = SETTINGS
        .iter()
        .map(|row| {
            format!(
                "{} | {} | {} | {} | {}",
                row.path,
                row.kind.as_str(),
                row.default,
                row.env(),
                row.flag.unwrap_or("")
            )
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn err_broken_toml() {
    insta::assert_snapshot!(Case::toml("[[webhooks]]\nname = \"slack\nurl = 1\n").refusal());
}

#[test]
fn err_broken_yaml() {
    let case = Case::new(&[("hookwire.yaml", "webhooks:\n  - name: a\n")]);
    let named = load(&[case.folder.path().join("hookwire.yaml")], &|_: &str| None, &case.overrides);
    let Err(LoadError::Invalid(diagnostics)) = named else { panic!("this should be refused") };
    insta::assert_snapshot!(case.shown(&diagnostics));
}

#[test]
fn err_broken_json() {
    let case = Case::new(&[(
        "hookwire.json",
        "{\n  \"webhooks\": [\n    {\"name\": \"slack\" \"url\": \"x\"}\n  ]\n}\n",
    )]);
    insta::assert_snapshot!(case.refusal());
}

#[test]
fn err_unknown_members() {
    let text = r#"
        [[webhooks]]
        name = "slack"
        url = "http://localhost/"
        payload_url = "x"
        body_tempalte = "x"
        zebra = 1
        retry = { max_atempts = 3 }

        [[event_rules]]
        name = "r"
        object_types = ["*"]
        event_types = ["*"]
        webhooks = ["slack"]
        condition = {}

        [store]
        uri = "memory:"
        listen = "x"

        [sever]
        listen = "127.0.0.1:1"
    "#;
    insta::assert_snapshot!(Case::toml(text).refusal());
}

#[test]
fn err_wrong_types_and_values() {
    let text = r#"
        [[webhooks]]
        name = "slack"
        url = 7
        method = "post"
        content_type = ""
        additional_headers = ["X-A: 1"]
        template_engine = "mustache"
        signature = ["netbox", "standart"]
        timeout = 10
        follow_redirects = "yes"
        concurrency = 0
        retry = { schedule = ["5s", "5 minutes", 5], jitter = 2, max_age = "0.5d" }

        [[webhooks]]
        url = "http://localhost/"
        timeout = "0s"
        previous_secrets = [1, {}]
        retry = { schedule = [], factor = 0.5 }

        [[event_rules]]
        name = " r "
        object_types = "dcim.site"
        event_types = []
        enabled = 1
        conditions = { attr = "a", value = 1979-05-27 }
        action_data = [1]

        [event_rule]
        name = "x"
    "#;
    insta::assert_snapshot!(Case::toml(text).refusal());
}

#[test]
fn err_wrong_settings() {
    let text = r#"
        server = 1
        [store]
        url = "sqlite:./x"
        shards = 0
        dedup_window = "soon"
        dedup_max_ids = 1.5
        max_pending_bytes = 1000
        [worker]
        concurrency = 99999999999
        lease = "15"
        [egress]
        mode = "public"
        allow = ["10.0.0.0/33", "https://example.org", "*.example.org", "10.0", 7]
        deny = "10.0.0.1"
        [history]
        bodies = "yes"
    "#;
    insta::assert_snapshot!(Case::toml(text).refusal());
}

#[test]
fn err_wrong_settings_from_elsewhere() {
    let case = Case::toml("")
        .env("HOOKWIRE_WORKER_CONCURRENCY", "many")
        .env("HOOKWIRE_HISTORY_BODIES", "yes")
        .env("HOOKWIRE_EGRESS_DENY", "10.0.0.1, *")
        .env("HOOKWIRE_SERVER_ADMIN_TOKEN_ENV", "MISSING")
        .env("HOOKWIRE_STORE_URL", "embeded:x")
        .flag("server.listen", "--listen", "8080");
    insta::assert_snapshot!(case.refusal());
}

#[test]
fn err_stores_that_no_command_could_open() {
    let mut told = String::new();
    for url in [
        "embedded:",
        "redis://",
        "redis://user:s3cret",
        "redis://127.0.0.1:99999/0",
        "redis://127.0.0.1:6399/foo",
        "rediss://:s3/cret@host",
        "unix://run/redis.sock",
        "unix:///run/redis.sock?pass=s3cret&db=x",
        "redis-cluster://a:1,:2",
        "redis-cluster://a:1,b:2/1",
    ] {
        told += &Case::toml("").flag("store.url", "--store", url).refusal();
        told.push('\n');
    }
    assert!(!told.contains("s3"), "{told}");
    told += &Case::toml("[store]\nurl = \"redis://localhost:99999\"\nshards = 100_000").refusal();
    insta::assert_snapshot!(told);
    for url in [
        "redis://localhost",
        "redis://[::1]:6379/15",
        "redis://u%40x:a:b@host:6379/?protocol=resp3",
        "unix:///run/redis.sock?db=1&user=u",
        "redis-cluster://u:p@a:1,b:2/",
    ] {
        let _ = Case::toml("").flag("store.url", "--store", url).config();
    }
}

#[test]
fn err_a_name_twice_over_two_files() {
    let case = Case::new(&[("a.toml", SLACK), ("b.toml", &SLACK.replace("ip-created", "other"))]);
    insta::assert_snapshot!(case.refusal());
    let twice = format!("{SLACK}{}", &SLACK[SLACK.find("[[event_rules]]").unwrap()..]);
    insta::assert_snapshot!("err_a_rule_twice_in_one_file", Case::toml(&twice).refusal());
}

#[test]
fn err_in_lines_that_a_program_wrote() {
    let mut webhooks: Vec<String> =
        (0..1500).map(|number| format!(r#"{{"name":"w{number}","url":"http://127.0.0.1:9300/"}}"#)).collect();
    webhooks.push(r#"{"name":"w7","url":"http://127.0.0.1:9300/","colour":"red"}"#.to_owned());
    let json = format!(r#"{{"webhooks":[{}]}}"#, webhooks.join(","));
    let mut all = Case::new(&[("one-line.json", &json)]).refusal();
    let template = format!(
        "\n[[webhooks]]\nname = \"long\"\nurl = \"http://127.0.0.1/\"\nbody_template = \"{}{{{{nope}}\"\n",
        "long ".repeat(14_000)
    );
    all.push_str(&Case::toml(&format!("{SLACK}{template}")).refusal());
    insta::assert_snapshot!(all);
}

#[test]
fn err_a_setting_twice() {
    let case = Case::new(&[
        ("a.toml", "[store]\nurl = \"memory:\""),
        ("b.json", r#"{"store": {"url": "memory:"}}"#),
    ]);
    insta::assert_snapshot!(case.refusal());
}

#[test]
fn err_a_rule_names_an_unknown_webhook() {
    insta::assert_snapshot!(
        Case::toml(
            &SLACK.replace("webhooks = [\"slack\"]", "webhooks = [\"slack\", \"slck\"]\nenabled = false")
        )
        .refusal()
    );
}

#[test]
fn err_conditions() {
    let mut all = Vec::new();
    for conditions in [
        r#"{ and = [ { attr = "name", op = "regex", value = "(" } ] }"#,
        r#"{ and = [ { atr = "name" } ] }"#,
        r#"'{"and": [{"attr": "name", "op": "regex", "value": "["}]}'"#,
        r#""{\"or\": [{\"attr\": \"a\\u00e9\", \"op\": \"like\", \"value\": 1}]}""#,
        "'''\n{\"and\": [\n  {\"attr\": \"a\", \"value\": 1},,\n]}'''",
    ] {
        let text = SLACK.replace(r#"{ and = [ { attr = "status.value", value = "active" } ] }"#, conditions);
        all.push(Case::toml(&text).refusal());
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn err_templates() {
    let text = r#"
[[webhooks]]
name = "each"
url = "http://localhost/{{#if}}"
additional_headers = """
X-A: 1
X-B: {{ data.name
"""
body_template = '''
{
  "a": {{#each data.tags}}1
}
'''

[[webhooks]]
name = "jinja"
url = "ftp://example.org/"
template_engine = "jinja"
additional_headers = "X-A: 1\nHost: \u00e9xample.org"
body_template = "{\n  \"a\": {{ data.name | no_such_filter }}\n}"
"#;
    insta::assert_snapshot!(Case::toml(text).refusal());
}

#[test]
fn err_templates_are_told_beside_other_mistakes() {
    let text = r#"
[[webhooks]]
name = "slack"
url = "http://localhost/"
timeot = "10s"
secret_env = "NOT_THERE"
body_template = '{"text": "{{data.name}"}'
"#;
    insta::assert_snapshot!(Case::toml(text).refusal());
    let other = text.replace("timeot = \"10s\"", "template_engine = \"mustache\"");
    let told = Case::toml(&other).diagnostics().to_string();
    assert!(!told.contains("body_template"), "it is in another language: {told}");
}

#[test]
fn err_secrets() {
    let text = r#"
        [[webhooks]]
        name = "env"
        url = "http://localhost/"
        secret_env = "NOT_THERE"

        [[webhooks]]
        name = "file"
        url = "http://localhost/"
        secret_file = "not-there"
        previous_secrets = [{ secret_file = "empty" }]

        [[webhooks]]
        name = "two"
        url = "http://localhost/"
        secret = "hush"
        secret_env = "HUSH"

        [[webhooks]]
        name = "previous"
        url = "http://localhost/"
        previous_secrets = ["hush"]

        [[webhooks]]
        name = "standard"
        url = "http://localhost/"
        signature = ["standard"]

        [[webhooks]]
        name = "form"
        url = "http://localhost/"
        signature = ["standard"]
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        previous_secrets = ["hush"]

        [[webhooks]]
        name = "certificate"
        url = "https://localhost/"
        client_cert = "not-there.pem"
    "#;
    let refusal = Case::new(&[("hookwire.toml", text), ("empty", "\n")]).refusal();
    insta::assert_snapshot!(refusal);
}

#[test]
fn err_contradictions() {
    let text = r#"
        [[webhooks]]
        name = "both"
        url = "http://localhost/"
        retry = { schedule = ["1s"], initial = "1s" }
    "#;
    let of_a_webhook = Case::toml(text).refusal();
    let text = r#"
        [store]
        url = "memory:"
        shards = 4
        max_pending_bytes = "1KiB"
        max_backlog_bytes = "2KiB"
        ca_file = "ca.pem"
        client_key = "key.pem"
        [server]
        listen = "0.0.0.0:8080"
        [worker]
        lease = "10ms"
    "#;
    let of_settings = Case::toml(text).refusal();
    let text = r#"
        [server]
        admin_token_env = "TOKEN"
        read_token_env = "TOKEN"
    "#;
    let of_tokens = Case::toml(text).env("TOKEN", "t0ken").refusal();
    let text = r#"
        [server]
        admin_token_env = "TOKEN"
        admin_token_file = "token"
    "#;
    let two_tokens = Case::toml(text).env("TOKEN", "t0ken").refusal();
    let by_flag = Case::toml("").flag("server.listen", "--listen", "0.0.0.0:8080").refusal();
    insta::assert_snapshot!([of_a_webhook, of_settings, of_tokens, two_tokens, by_flag].join("\n"));
}

#[test]
fn err_not_supported_yet() {
    let text = r#"
        [[webhooks]]
        name = "later"
        url = "http://localhost/"
        signature = ["netbox", "standard-ed25519"]
        signing_key = "whsk_x"
        [store]
        url = "redis-sentinel://user:pass@h1:1,h2:2/name"
    "#;
    let refusal = Case::toml(text).refusal();
    assert!(!refusal.replace(text, "").contains("not known"), "{refusal}");
    insta::assert_snapshot!(refusal);
    let case = Case::toml("").flag("store.url", "--store", "redis-sentinel://h1:1,h2:2/name");
    insta::assert_snapshot!("err_not_supported_yet_by_flag", case.refusal());
}

#[test]
fn what_is_not_supported_yet_is_refused_whatever_its_value() {
    for entry in NOT_YET {
        let value = match (entry.value, entry.member) {
            (Some(scheme), "url") => format!("\"{scheme}://x\""),
            (Some(value), _) => format!("\"{value}\""),
            (None, _) => "\"anything\"".to_owned(),
        };
        let text = match entry.table {
            "webhooks" => {
                format!("[[webhooks]]\nname = \"w\"\nurl = \"http://localhost/\"\n{} = {value}", entry.member)
            }
            table => format!("[{table}]\n{} = {value}", entry.member),
        };
        let diagnostics = Case::toml(&text).diagnostics();
        assert!(
            diagnostics.iter().any(|one| one.message.contains("not supported yet")),
            "{entry:?}: {diagnostics}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let case = Case::new(&[]);
    let read = |path: &Path| match load(&[path.to_owned()], &|_| None, &Overrides::new()) {
        Err(LoadError::Unreadable { path: named, source }) => {
            assert_eq!(named, path);
            LoadError::Unreadable { path: "X".into(), source }.to_string()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&case.path("missing.toml")), "X cannot be read: it does not exist");
    assert_eq!(read(case.folder.path()), "X cannot be read: the folder holds no .toml and no .json file");
    std::fs::write(case.path("latin1.toml"), b"a = '\xe9'").unwrap();
    assert_eq!(read(&case.path("latin1.toml")), "X cannot be read: it is not UTF-8");
}

#[test]
fn the_sound_part_of_a_broken_configuration_can_be_looked_at() {
    let text = format!(
        "{SLACK}\n[[webhooks]]\nname = \"bad\"\nurl = \"http://localhost/\"\ntimeout = 1\n\n[[event_rules]]\nname = \"second\"\nobject_types = [\"*\"]\nevent_types = [\"*\"]\nwebhooks = [\"bad\"]\n"
    );
    let case = Case::toml(&text);
    let (config, diagnostics) =
        load_sound(&[case.path("hookwire.toml")], &|_| None, &Overrides::new()).unwrap();
    let told: Vec<&str> = diagnostics.iter().map(|one| one.path).collect();
    assert_eq!(told, [r#"webhooks["bad"].timeout"#]);
    assert_eq!(config.definitions.webhooks().count(), 1);
    assert_eq!(config.definitions.rules().count(), 2);
}

#[test]
fn a_diagnostic_as_one_line_and_as_data() {
    let case = Case::toml("[[webhooks]]\nname = 'é'; url = 1");
    let diagnostics = case.diagnostics();
    assert_eq!((diagnostics.len(), diagnostics.is_empty()), (1, false));
    let case = Case::toml("webhooks = [{ name = 'é', url = 1 }]");
    let diagnostics = case.diagnostics();
    let one = diagnostics.iter().next().unwrap();
    assert_eq!((one.path, one.line, one.column), ("webhooks[\"é\"].url", Some(1), Some(33)));
    let line = diagnostics.to_string().replace(&*case.folder.path().to_string_lossy(), "DIR");
    assert_eq!(line, "DIR/hookwire.toml:1:33: webhooks[\"é\"].url: needs a string, has a number");
    assert!(diagnostics.render(Style { color: true, width: 80 }).contains('\u{1b}'));
    assert!(!diagnostics.render(Style::default()).contains('\u{1b}'));
}

#[test]
fn the_first_fifty_problems_are_shown_and_the_rest_counted() {
    let text = "[[webhooks]]\n".repeat(60);
    let diagnostics = Case::toml(&text).diagnostics();
    assert_eq!(diagnostics.len(), 120, "each lacks its name and its url");
    for text in [diagnostics.to_string(), diagnostics.render(Style::default())] {
        assert_eq!(text.matches("is missing").count(), 50);
        assert!(text.trim_end().ends_with("... and 70 more; mend these first"), "{text}");
    }
}

#[test]
fn no_secret_shows_in_a_message() {
    let text = r#"
        [[webhooks]]
        name = "w"
        secret = "s3cret-now"
        timeout = 1
        previous_secrets = ["s3cret-old", { secret = "s3cret-older" }]
        [[webhooks]]
        name = "x"
        previous_secrets = [ "s3cret-x", 7 ]
        [[webhooks]]
        name = "y"
        signing_key = "s3cret-key"
        secret = """
s3cret-long"""
        concurrency = 0
        [store]
        url = "redis-sentinel://user:s3cret-pass@localhost/name"
    "#;
    let case = Case::toml(text);
    let (line, shown) = (case.diagnostics().to_string(), case.refusal());
    assert!(!line.contains("s3cret") && !shown.contains("s3cret"), "{line}\n{shown}");
    assert!(!format!("{:?}", case.diagnostics()).contains("s3cret"));
    insta::assert_snapshot!(shown);
    // Nor where a file is broken, and nobody can say for certain what is a secret.
    for (name, text) in [
        ("a.toml", "secret = \"s3cret\"\nname = \"x\nprevious_secrets = ['s3cret', 's3cret']\n"),
        (
            "a.json",
            "{\"url\": \"redis://u:s3cret@h/\",\n \"secret\": \"s3cret\"\n \"signing_key\" : \"s3cret\"}",
        ),
        ("b.toml", "secret = \"s3cret\n"),
        ("c.toml", "previous_secrets = [\n 's3cret',\n 's3cret' 's3cret',\n]\n"),
        ("d.toml", "secret = '''\ns3cret'''\nx = = 1"),
        ("e.toml", "additional_headers = \"Authorization: Bearer s3cret\"\nx = = 1"),
        ("f.toml", "additional_headers = \"X-Plain: 1\\nX-Api-Key: s3cret\"\nx = = 1"),
        ("h.toml", "url = \"redis://:s3/s3cret@host\"\nx = = 1"),
        ("g.toml", "url = \"unix:///run/redis.sock?user=s3cret&db=1&pass=s3cret\"\nx = = 1"),
        ("i.toml", "secret \"s3cret\"\n"),
        ("j.toml", "Hmac_Secret = \"s3cret\"\nx = = 1"),
        ("k.json", r#"{"additional_headers": "Authorization: s3cret", "body_template": "{{ data }}" "x"}"#),
        // Parsed, and wrong in the same line.
        (
            "l.toml",
            "[[webhooks]]\nadditional_headers = \"Authorization: Bearer s3cret\\nX-O: {{ nope }}\"\nurl = 1",
        ),
        (
            "m.json",
            r#"{"webhooks": [{"additional_headers": "Authorization: s3cret\nX: {{ a }}", "nope": 1}]}"#,
        ),
        ("n.toml", "[[webhooks]]\nsecrets = [\"s3cret\"]\nhmac_secret = \"s3cret\"\nSecret = \"s3cret\""),
        ("o.toml", "[server]\nadmin_token = \"s3cret\""),
        ("p.toml", "[[webhooks]]\nname = \"a\"\nurl = \"http://u:s3cret/x@h.example/\""),
        ("q.toml", "[[webhooks]]\nname = \"a\"\nurl = \"htp:/u:s3cret@h.example/\""),
        ("r.toml", "[store]\nurl = \"redis:u:s3cret@h\""),
    ] {
        let case = Case::new(&[(name, text)]);
        let shown = case.refusal();
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
    let config = Case::toml("[server]\nadmin_token_env = \"TOKEN\"").env("TOKEN", "s3cret-token").config();
    assert!(!format!("{config:?}").contains("s3cret"));
}

/// An import leaves broken definitions disabled, to be mended in the file.
#[test]
fn what_is_wrong_with_disabled_definitions_is_a_warning() {
    let text = r#"
[[webhooks]]
name = "broken"
url = "http://[::1/{{ data.id }}"
body_template = "{{ data.name"
enabled = false

[[event_rules]]
name = "still sends there"
object_types = ["*"]
event_types = ["*"]
webhooks = ["broken"]

[[event_rules]]
name = "bad pattern"
object_types = ["*"]
event_types = ["*"]
conditions = { attr = "name", op = "regex", value = "[" }
webhooks = ["broken"]
enabled = false

[[event_rules]]
name = "bad operator"
object_types = ["*"]
event_types = ["*"]
conditions = { and = [ { attr = "name", op = "neq", value = 1 } ] }
webhooks = ["broken"]
enabled = false
"#;
    let case = Case::toml(text);
    let config = case.config();
    insta::assert_snapshot!(case.shown(&config.warnings));
    assert_eq!(config.definitions.rules().count(), 3);
    // Once enabled they are refused.
    let problems = Case::toml(&text.replace("enabled = false", "")).diagnostics().len();
    assert_eq!(problems, config.warnings.len());
}

#[test]
fn an_event_type_that_is_almost_a_usual_one_is_a_warning() {
    let rule = |event_types: &str| {
        Case::toml(&format!(
            "[[webhooks]]\nname = \"w\"\nurl = \"https://h.example/\"\n\n[[event_rules]]\nname = \"r\"\nobject_types = \
             [\"*\"]\nevent_types = {event_types}\nwebhooks = [\"w\"]\n"
        ))
    };
    for own in [
        r#"["created", "updated", "deleted", "job_started", "job_ended", "job_completed", "job_failed", "job_errored"]"#,
        r#"["*"]"#,
        r#"["created_by_script", "changed", "ended", "job_done", "order.paid"]"#,
    ] {
        assert!(rule(own).config().warnings.is_empty(), "{own}");
    }
    let case = rule(r#"["created", "update", "DELETED", "job_complete"]"#);
    let config = case.config();
    insta::assert_snapshot!(case.shown(&config.warnings));
    assert_eq!(config.definitions.rules().count(), 1);
}

#[test]
fn err_rate_and_order() {
    let text = r#"
        [[webhooks]]
        name = "w"
        url = "http://localhost/"
        rate_limit = "fast"
        on_failure = "skip"
    "#;
    insta::assert_snapshot!(Case::toml(text).refusal());
    let defaults = format!(
        "{SLACK}[[webhooks]]\nname = \"w\"\nurl = \"http://localhost/\"\nordering = \"none\"\non_failure = \"block\"\n"
    );
    assert_eq!(Case::toml(&defaults).config().definitions.webhooks().count(), 2, "what the default says");
}

#[test]
fn what_is_in_force_and_where_it_comes_from() {
    let case = Case::new(&[
        (
            "a.toml",
            r#"
[store]
url = "embedded:data"
[server]
admin_token_env = "TOKEN"
[egress]
allow = ["10.0.0.0/8", ".example.org"]
[[webhooks]]
name = "slack"
url = "https://user:s3cret@hooks.example.org/x"
secret = "s3cret"
previous_secrets = ["s3cret-old", { secret_env = "OLDER" }, { secret = "s3cret" }]
body_template = """
{"text": "{{ data.name }}",
 "more": 1}
"""
additional_headers = "Authorization: Bearer s3cret\nPrivate-Token: s3cret"
retry = { max_attempts = 3 }
"#,
        ),
        (
            "b.json",
            r#"{
"webhooks": [{"name": "b", "url": "http://localhost/", "secret_file": "secret", "retry": {"factor": 3}, "timeout": "20s"}],
"event_rules": [
  {"name": "r", "object_types": ["*"], "event_types": ["created"], "webhooks": ["slack", "b"],
   "conditions": {"and": [{"attr": "status.value", "value": "active"}, {"attr": "tenant", "value": null}]},
   "action_data": {"a b": [1, 2.50]}}
]}"#,
        ),
        ("secret", "s3cret-file"),
    ])
    .env("TOKEN", "s3cret-token")
    .env("OLDER", "s3cret-older")
    .env("HOOKWIRE_WORKER_CONCURRENCY", "1_000")
    .env("HOOKWIRE_EGRESS_DENY", "192.0.2.1, 192.0.2.2")
    .flag("server.listen", "--listen", "127.0.0.1:9");
    let env = |name: &str| case.env.get(name).map(|value| (*value).to_owned());
    let shown = show(&[case.folder.path().to_owned()], &env, &case.overrides).unwrap();
    let folder = format!("{}/", case.folder.path().display());
    let text = shown.to_string().replace(&folder, "");
    let json = serde_json::to_string_pretty(&shown.to_json()).unwrap().replace(&folder, "");
    assert!(!text.contains("s3cret") && !json.contains("s3cret"), "{text}\n{json}");
    // It is TOML that loads again, but for the secrets that it leaves out.
    let again = Case::toml(&text).env("TOKEN", "x").env("OLDER", "x");
    std::fs::write(again.path("secret"), "x").unwrap();
    let again = again.config();
    assert_eq!(again.settings.worker.concurrency.get(), 1000);
    assert_eq!(again.definitions.webhooks().count(), 2);
    insta::assert_snapshot!("shown_text", text);
    insta::assert_snapshot!("shown_json", json);
    // What does not check is not in force.
    let broken = Case::toml("[store]\nurl = 1");
    assert!(show(&[broken.path("hookwire.toml")], &|_| None, &Overrides::new()).is_err());
}

/// What is taken here is taken where addresses are decided on, too.
#[test]
fn err_networks() {
    for network in ["10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/008", "::/129", "fe80::1/+10", "10.0.0.0/"] {
        let case = Case::toml(&format!("[egress]\nallow = [\"{network}\"]\n"));
        assert_eq!(case.diagnostics().len(), 1, "{network}");
    }
}
