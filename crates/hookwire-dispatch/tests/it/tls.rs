//! HTTPS: who is trusted, who is presented, and what is said when it fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hookwire_dispatch::{AttemptOptions, Dial, Dispatch, DispatchSettings, HttpDispatcher, TlsProfile};
use hookwire_model::Tls;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{Net, Reply, options, post, summary};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, params: CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

/// Servers that speak TLS; each connection's facts are noted.
#[derive(Clone)]
struct TlsNet {
    net: Net,
    config: Arc<ServerConfig>,
    facts: Arc<Mutex<Vec<String>>>,
}

impl TlsNet {
    fn new((certificate, key): (Certificate, KeyPair), client_authority: Option<&Authority>) -> TlsNet {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match client_authority {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), provider).build().unwrap(),
            ),
        };
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let net = Net::new([]).name("hooks.example", &["192.0.2.1"]).name("other.example", &["192.0.2.1"]);
        TlsNet { net, config: Arc::new(config), facts: Arc::default() }
    }

    fn dispatcher(&self) -> HttpDispatcher<TlsNet> {
        HttpDispatcher::with_dial(DispatchSettings::default(), self.clone())
    }

    async fn check(&self, url: &str, tls: &Tls) -> String {
        summary(&self.dispatcher().attempt(&post(url), &with(tls)).await)
    }

    fn facts(&self) -> Vec<String> {
        std::mem::take(&mut self.facts.lock().unwrap())
    }
}

impl Dial for TlsNet {
    type Stream = DuplexStream;

    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.net.resolve(host).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let TlsNet { net, config, facts } = self.clone();
        tokio::spawn(async move {
            let Ok(stream) = TlsAcceptor::from(config).accept(far).await else { return };
            let (_, session) = stream.get_ref();
            let facts_of_it = format!(
                "{:?} {} {} {}",
                session.handshake_kind().unwrap(),
                session.server_name().unwrap_or("no name"),
                String::from_utf8_lossy(session.alpn_protocol().unwrap_or(b"no protocol")),
                session.peer_certificates().map_or(0, <[_]>::len),
            );
            facts.lock().unwrap().push(facts_of_it);
            net.serve(address, stream).await;
        });
        Ok(near)
    }
}

fn with(tls: &Tls) -> AttemptOptions {
    AttemptOptions { tls: TlsProfile::load(tls).unwrap(), ..options() }
}

/// A folder to write PEM files to.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: String) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

const URL: &str = "https://hooks.example/";

#[tokio::test]
async fn only_who_is_trusted_and_has_the_name_is_sent_to() {
    let (files, authority, stranger) = (Files::new(), Authority::new("Known"), Authority::new("Stranger"));
    let trusting = |authority: &Authority, name| Tls {
        ca_file: Some(files.write(name, authority.0.pem())),
        ..Tls::default()
    };
    let (trusting, other) = (trusting(&authority, "ca.pem"), trusting(&stranger, "other.pem"));
    let namesake = Authority::new("Known");
    let namesake = Tls { ca_file: Some(files.write("namesake.pem", namesake.0.pem())), ..Tls::default() };
    let unchecked = Tls { ssl_verification: false, ..Tls::default() };

    let server = TlsNet::new(authority.issue(params(&["hooks.example", "192.0.2.1", "::1"])), None);
    let ok = "succeeded 200; body \"\"";
    assert_eq!(server.check(URL, &trusting).await, ok);
    assert_eq!(server.check("https://192.0.2.1/", &trusting).await, ok);
    assert_eq!(server.check("https://[::1]/", &trusting).await, ok);
    assert_eq!(
        server.facts(),
        ["Full hooks.example http/1.1 0", "Full no name http/1.1 0", "Full no name http/1.1 0"]
    );
    assert_eq!(server.check("https://other.example/", &unchecked).await, ok);

    let mut expired = params(&["hooks.example"]);
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = TlsNet::new(authority.issue(expired), None);
    assert_eq!(expired.check(URL, &unchecked).await, ok);
    let expiry = expired.check(URL, &trusting).await;
    let expected =
        "unanswered; tls: no TLS connection to \"hooks.example\": the server's certificate expired ";
    assert!(expiry.starts_with(expected), "{expiry}");

    let refusals = [
        server.check(URL, &other).await,
        server.check(URL, &namesake).await,
        server.check("https://other.example/", &trusting).await,
        server.check("https://192.0.2.9/", &trusting).await,
    ];
    insta::assert_snapshot!(refusals.join("\n"));
    assert_eq!(server.net.received().len() + expired.net.received().len(), 5, "and nothing else was sent");
}

#[tokio::test]
async fn a_certificate_given_as_its_own_authority_is_taken() {
    let files = Files::new();
    for is_ca in [IsCa::Ca(BasicConstraints::Unconstrained), IsCa::ExplicitNoCa, IsCa::NoCa] {
        let mut params = params(&["hooks.example"]);
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let tls = Tls { ca_file: Some(files.write("self.pem", certificate.pem())), ..Tls::default() };
        let server = TlsNet::new((certificate, key), None);
        assert_eq!(server.check(URL, &tls).await, "succeeded 200; body \"\"", "{is_ca:?}");
        let elsewhere = server.check("https://other.example/", &tls).await;
        assert!(elsewhere.contains("not valid for name"), "{is_ca:?}: {elsewhere}");

        // Another certificate of the same name is not this one.
        let key = KeyPair::generate().unwrap();
        let impostor = TlsNet::new((params.self_signed(&key).unwrap(), key), None);
        let refused = impostor.check(URL, &tls).await;
        assert!(
            refused.starts_with("unanswered; tls:") && refused.contains("ca_file"),
            "{is_ca:?}: {refused}"
        );
        let is_ca = matches!(is_ca, IsCa::Ca(_));
        assert_eq!(refused.contains("self-signed"), is_ca, "{refused}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_presented_where_one_is_given() {
    let (files, authority, stranger) = (Files::new(), Authority::new("Known"), Authority::new("Stranger"));
    let ca_file = Some(files.write("ca.pem", authority.0.pem()));
    let identity = |authority: &Authority, name: &str| {
        let (certificate, key) = authority.issue(params(&["client"]));
        Tls {
            ca_file: ca_file.clone(),
            client_cert: Some(files.write(&format!("{name}.pem"), certificate.pem())),
            client_key: Some(files.write(&format!("{name}-key.pem"), key.serialize_pem())),
            ..Tls::default()
        }
    };
    let server = TlsNet::new(authority.issue(params(&["hooks.example"])), Some(&authority));
    assert_eq!(server.check(URL, &identity(&authority, "known")).await, "succeeded 200; body \"\"");
    assert_eq!(server.facts(), ["Full hooks.example http/1.1 1"]);
    let refusals = [
        server.check(URL, &Tls { ca_file: ca_file.clone(), ..Tls::default() }).await,
        server.check(URL, &identity(&stranger, "unknown")).await,
    ];
    insta::assert_snapshot!(refusals.join("\n"));
    assert_eq!(server.net.received().len(), 1);
}

#[tokio::test]
async fn sessions_are_resumed_and_connections_shared_by_profile() {
    let (files, authority) = (Files::new(), Authority::new("Known"));
    let tls = Tls { ca_file: Some(files.write("ca.pem", authority.0.pem())), ..Tls::default() };
    let server = TlsNet::new(authority.issue(params(&["hooks.example"])), None);
    let dispatcher = server.dispatcher();
    let options = with(&tls);
    dispatcher.attempt(&post(URL), &options).await;
    // The same settings, loaded again, are the same profile to the pool; others are not.
    dispatcher.attempt(&post(URL), &with(&tls)).await;
    assert_eq!(server.net.connections(), [1, 1]);
    let unchecked = Tls { ssl_verification: false, ..Tls::default() };
    dispatcher.attempt(&post(URL), &with(&unchecked)).await;
    assert_eq!(server.net.connections(), [1, 1, 2]);
    // A second connection of the first profile, while the first one is busy, resumes its session.
    server.net.push(Reply::response(200, "Connection: close\r\n", ""));
    dispatcher.attempt(&post(URL), &options).await;
    dispatcher.attempt(&post(URL), &options).await;
    let facts = server.facts();
    assert_eq!(facts.last().unwrap(), "Resumed hooks.example http/1.1 0", "{facts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_tls_is_recognised() {
    let dispatcher = HttpDispatcher::with_dial(DispatchSettings::default(), PlainDial);
    let unchecked = Tls { ssl_verification: false, ..Tls::default() };
    let report = dispatcher.attempt(&post("https://192.0.2.1/"), &with(&unchecked)).await;
    let closed = HttpDispatcher::with_dial(DispatchSettings::default(), ClosedDial);
    let closed = closed.attempt(&post("https://192.0.2.1/"), &with(&unchecked)).await;
    insta::assert_snapshot!(format!("{}\n{}", summary(&report), summary(&closed)));
}

/// A server that answers any first bytes with an HTTP error.
struct PlainDial;

impl Dial for PlainDial {
    type Stream = DuplexStream;

    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![])
    }

    async fn connect(&self, _address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let mut hello = [0; 16];
            far.read_exact(&mut hello).await.unwrap();
            far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let _ = far.read_to_end(&mut Vec::new()).await;
        });
        Ok(near)
    }
}

/// A server that hangs up.
struct ClosedDial;

impl Dial for ClosedDial {
    type Stream = DuplexStream;

    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![])
    }

    async fn connect(&self, _address: SocketAddr) -> io::Result<DuplexStream> {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            let _ = far.read_u8().await;
        });
        Ok(near)
    }
}
