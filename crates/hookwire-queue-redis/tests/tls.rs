//! TLS to a real server: who is trusted, who is shown, and what is said when it fails.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use hookwire_model::{EventId, Shard};
use hookwire_queue::{Inspect as _, NewEvent, Queue as _, QueueError};
use hookwire_queue_redis::{RedisOptions, RedisQueue, RedisTls, RedisUrl};
use hookwire_testkit::RedisServer;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// A certificate for this name, and its key.
    fn issue(&self, name: &str) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }
}

/// Starts a server that speaks TLS and nothing else but its socket; with its URL.
fn start(authority: &Authority, folder: &Path) -> (RedisServer, String) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let (certificate, key) = authority.issue("localhost");
    let put = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (certificate, key) = (put("cert.pem", &certificate), put("key.pem", &key));
    let authorities = put("ca.pem", &authority.pem());
    let server = RedisServer::start_with(&[
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authorities,
        "--tls-auth-clients",
        "yes",
    ]);
    (server, format!("rediss://localhost:{port}"))
}

/// Whether the server under test was built with TLS: then it is the certificate that it misses.
fn speaks_tls() -> bool {
    let program = std::env::var_os("HOOKWIRE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let tried = Command::new(program).args(["--port", "0", "--tls-port", "1"]).output().unwrap();
    let told = [tried.stdout, tried.stderr].concat();
    String::from_utf8_lossy(&told).contains("Failed to configure TLS")
}

/// An error with what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map_or_else(String::new, |source| format!(": {}", chain(source)));
    format!("{error}{source}")
}

async fn open(url: &str, tls: RedisTls) -> Result<RedisQueue, QueueError> {
    RedisQueue::open(&RedisUrl::parse(url).unwrap(), RedisOptions { tls, ..RedisOptions::default() }).await
}

#[tokio::test]
async fn a_server_is_checked_and_shown_who_asks() {
    if !speaks_tls() {
        eprintln!("skipped: the server was built without TLS");
        return;
    }
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let folder = tempfile::tempdir().unwrap();
    let (_server, url) = start(&ours, folder.path());
    let client = Some(ours.issue("hookwire"));
    let tls = RedisTls { authorities: Some(ours.pem()), client: client.clone() };
    let queue = open(&url, tls).await.unwrap();
    let event = NewEvent { id: EventId::new("a").unwrap(), payload: "{}".into() };
    assert!(!queue.publish(Shard(0), vec![event]).await.unwrap()[0].duplicate);
    // Looking goes by the pool, which makes connections of its own.
    assert_eq!(queue.stats(Shard(0)).await.unwrap().events_queued, 1);

    // The usual authorities do not know the server; nor does another one; nobody is shown; somebody is whom it does not
    // trust.
    let refused = [
        ("UnknownIssuer", RedisTls { authorities: None, client: client.clone() }),
        ("UnknownIssuer", RedisTls { authorities: Some(other.pem()), client }),
        ("CertificateRequired", RedisTls { authorities: Some(ours.pem()), client: None }),
        ("UnknownCA", RedisTls { authorities: Some(ours.pem()), client: Some(other.issue("hookwire")) }),
    ];
    for (why, tls) in refused {
        let error = open(&url, tls).await.unwrap_err();
        let told = chain(&error);
        assert!(told.contains(&url) && told.contains(why), "{told}");
    }
}
