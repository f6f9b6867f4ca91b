//! What a webhook says about HTTPS, loaded once and shared by all its connections.
//!
//! Invariants:
//! - The cryptography provider is named (`ring`): with a second one in the program rustls would have none by default.
//! - Profiles that were made from the same settings and the same file contents have the same id, so that connections
//!   outlive a reload of the definitions.
//! - A private key never shows in `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use hookwire_model::Tls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::dial::lacks_descriptors;

/// Names a profile by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TlsProfileId([u8; 16]);

/// Certificates and checks of HTTPS, ready for use.
pub struct TlsProfile {
    id: TlsProfileId,
    settings: Settings,
    /// Made at the first HTTPS connection: whoever only calls `http://` never reads the system's authorities.
    config: OnceLock<Result<Arc<ClientConfig>, TlsError>>,
}

/// A file that a webhook's TLS settings name, and that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}; {remedy}", self.place())]
pub struct TlsError {
    /// The member of the webhook: `ca_file`, `client_cert` or `client_key`; `None` for the system's authorities.
    pub field: Option<&'static str>,
    /// The file.
    pub file: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum NoConfig {
    /// Something is wrong with what it is made of.
    Broken(TlsError),
    /// This process had no file descriptor to read the system's authorities with, or some of them: told in full.
    Starved(String),
}

impl From<TlsError> for NoConfig {
    fn from(error: TlsError) -> Self {
        NoConfig::Broken(error)
    }
}

enum Authorities {
    /// Those that the operating system trusts.
    System,
    /// These and no others.
    Given(Vec<CertificateDer<'static>>),
    /// Whatever the server presents is taken.
    Unchecked,
}

struct Settings {
    authorities: Authorities,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    client_cert: Option<PathBuf>,
}

impl TlsProfile {
    /// Reads the files that the settings name, and checks that they can be used.
    ///
    /// Without `ca_file` the system's authorities are trusted; they are read at the first connection that needs them.
    /// A `client_cert` without `client_key` is taken to hold the key too. This reads files: call it while definitions
    /// are loaded, not for an attempt.
    pub fn load(tls: &Tls) -> Result<Arc<TlsProfile>, TlsError> {
        let mut digest = Sha256::new();
        // Lengths keep the parts apart; what is absent differs from what is empty.
        let mut note = |part: Option<&[u8]>| {
            digest.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
            digest.update(part.unwrap_or_default());
        };

        note(Some(&[u8::from(tls.ssl_verification)]));
        let authorities = match (&tls.ca_file, tls.ssl_verification) {
            (_, false) => Authorities::Unchecked,
            (None, true) => Authorities::System,
            (Some(file), true) => {
                let text = read("ca_file", file)?;
                note(Some(&text));
                Authorities::Given(authorities(file, &text)?)
            }
        };
        note(None);
        let identity = match (&tls.client_cert, &tls.client_key) {
            (None, None) => None,
            (None, Some(key)) => {
                return Err(TlsError {
                    field: Some("client_key"),
                    file: Some(key.clone()),
                    problem: "is given without client_cert".into(),
                    remedy: "name the certificate that belongs to it in client_cert",
                });
            }
            (Some(certificate), key) => {
                let text = read("client_cert", certificate)?;
                note(Some(&text));
                let chain = certificates("client_cert", certificate, &text)?;
                let (field, key_file) = match key {
                    Some(key) => ("client_key", key),
                    None => ("client_cert", certificate),
                };
                let text = read(field, key_file)?;
                note(Some(&text));
                Some((chain, private_key(field, key_file, &text)?))
            }
        };

        let mut id = [0; 16];
        id.copy_from_slice(&digest.finalize()[..16]);
        let settings = Settings { authorities, identity, client_cert: tls.client_cert.clone() };
        let profile = TlsProfile { id: TlsProfileId(id), settings, config: OnceLock::new() };
        // What is starved now is found out again when it is used.
        if profile.settings.needs_check()
            && let Err(NoConfig::Broken(error)) = profile.config()
        {
            return Err(error);
        }
        Ok(Arc::new(profile))
    }

    /// The profile of a webhook that says nothing about TLS: the system's authorities, no client certificate.
    pub fn system() -> Arc<TlsProfile> {
        static SYSTEM: LazyLock<Arc<TlsProfile>> =
            LazyLock::new(|| TlsProfile::load(&Tls::default()).expect("the default names no file"));
        SYSTEM.clone()
    }

    /// What this profile holds, in short: equal for equal settings and file contents.
    pub fn id(&self) -> TlsProfileId {
        self.id
    }

    /// One configuration for all connections of the profile, so that TLS sessions are resumed.
    pub(crate) fn config(&self) -> Result<&Arc<ClientConfig>, NoConfig> {
        if self.config.get().is_none() {
            let made = match self.settings.config() {
                Ok(config) => Ok(config),
                Err(NoConfig::Broken(error)) => Err(error),
                // It is another time that tells.
                Err(starved) => return Err(starved),
            };
            self.config.get_or_init(|| made);
        }
        let config = self.config.get().expect("it was made a moment ago, if not before");
        config.as_ref().map_err(|error| NoConfig::Broken(error.clone()))
    }
}

impl fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsProfile").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TlsError {
    fn place(&self) -> String {
        match (self.field, &self.file) {
            (Some(field), Some(file)) => format!("{field}: {} ", file.display()),
            (Some(field), None) => format!("{field}: "),
            (None, _) => String::new(),
        }
    }
}

impl Settings {
    /// Whether something can be wrong with it that only making the configuration shows.
    fn needs_check(&self) -> bool {
        self.identity.is_some() || matches!(self.authorities, Authorities::Given(_))
    }

    fn config(&self) -> Result<Arc<ClientConfig>, NoConfig> {
        static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(ring::default_provider()));
        let provider = PROVIDER.clone();
        let verifier: Arc<dyn ServerCertVerifier> = match &self.authorities {
            Authorities::System => verifier(system_roots()?, &provider),
            Authorities::Given(certificates) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates.iter().cloned());
                let checked = verifier(Arc::new(roots), &provider);
                Arc::new(GivenCertificates { checked, given: certificates.clone() })
            }
            Authorities::Unchecked => Arc::new(Unchecked { provider: provider.clone() }),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(|error| TlsError {
                    field: Some("client_cert"),
                    file: self.client_cert.clone(),
                    problem: format!("can't be used with its key: {error}"),
                    remedy: "check that client_cert and client_key belong together",
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn verifier(roots: Arc<RootCertStore>, provider: &Arc<CryptoProvider>) -> Arc<WebPkiServerVerifier> {
    WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .expect("there are authorities, and no revocation lists that could be wrong")
}

/// The authorities that the operating system trusts, read once for the whole process: all of them, so that a moment
/// without file descriptors does not leave it with a part.
fn system_roots() -> Result<Arc<RootCertStore>, NoConfig> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let loaded = rustls_native_certs::load_native_certs();
    let starved = loaded.errors.iter().find(|error| match &error.kind {
        rustls_native_certs::ErrorKind::Io { inner, .. } => lacks_descriptors(inner),
        _ => false,
    });
    if let Some(error) = starved {
        return Err(NoConfig::Starved(format!(
            "the system's certificate authorities can't be read: {error}"
        )));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let causes: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join("; ")) };
        return Err(NoConfig::Broken(TlsError {
            field: None,
            file: None,
            problem: format!("this system has no certificate authorities to trust{causes}"),
            remedy: "install the package ca-certificates, or name a PEM file in the webhook's ca_file",
        }));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

fn read(field: &'static str, file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|error| TlsError {
        field: Some(field),
        file: Some(file.to_owned()),
        problem: format!("can't be read: {error}"),
        remedy: "check the path and its permissions",
    })
}

fn authorities(file: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = certificates("ca_file", file, text)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|error| TlsError {
            field: Some("ca_file"),
            file: Some(file.to_owned()),
            problem: format!("holds a certificate that can't be used as an authority: {error}"),
            remedy: "give the certificate of the authority, in PEM",
        })?;
    }
    Ok(certificates)
}

fn certificates(
    field: &'static str,
    file: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |problem| TlsError {
        field: Some(field),
        file: Some(file.to_owned()),
        problem,
        remedy: "give a PEM file with -----BEGIN CERTIFICATE-----",
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(pem_problem(&error)))?;
    if certificates.is_empty() {
        return Err(refused("holds no certificate".into()));
    }
    Ok(certificates)
}

fn private_key(field: &'static str, file: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| TlsError {
        field: Some(field),
        file: Some(file.to_owned()),
        problem: match error {
            pem::Error::NoItemsFound => "holds no private key".into(),
            other => pem_problem(&other),
        },
        remedy: "give the key in PEM, without a passphrase, in client_key or behind the certificate in client_cert",
    })
}

fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("is cut off: no -----END {}-----", String::from_utf8_lossy(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("is no PEM file: it has the line {:?}", String::from_utf8_lossy(line))
        }
        other => format!("is no PEM file: {other}"),
    }
}

/// Trusts the given authorities, and takes a given certificate for itself.
///
/// People give a server's self-signed certificate as `ca_file`, and OpenSSL marks such a certificate as an authority by
/// default. webpki never takes an authority's certificate for a server's; here the operator has named this very one.
/// The server's name is checked nevertheless. Its date is not: there is nobody else to renew it.
#[derive(Debug)]
struct GivenCertificates {
    checked: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for GivenCertificates {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let checked =
            self.checked.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = checked else { return checked };
        let is_other = matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::Other(_)));
        if !is_other || !self.given.iter().any(|given| given == end_entity) {
            return Err(error);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.checked.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.checked.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.checked.supported_verify_schemes()
    }
}

/// Takes any certificate: what `ssl_verification = false` asks for. That the server holds its key is checked still.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with a certificate and its key; and the settings that name them.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let both = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(folder.path().join("both.pem"), both).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("other.pem"), other.signing_key.serialize_pem()).unwrap();
        fs::write(folder.path().join("empty.pem"), "").unwrap();
        fs::write(folder.path().join("broken.pem"), "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        fs::write(
            folder.path().join("no.pem"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        folder
    }

    fn settings(folder: &Path, [ca, certificate, key]: [&str; 3]) -> Tls {
        let path = |name: &str| (!name.is_empty()).then(|| folder.join(name));
        Tls { ca_file: path(ca), client_cert: path(certificate), client_key: path(key), ..Tls::default() }
    }

    #[test]
    fn files_that_can_be_used() {
        let folder = folder();
        for files in [
            ["", "", ""],
            ["cert.pem", "", ""],
            ["", "cert.pem", "key.pem"],
            ["", "both.pem", ""],
            ["both.pem", "both.pem", "key.pem"],
        ] {
            let tls = settings(folder.path(), files);
            let profile = TlsProfile::load(&tls).unwrap();
            assert_eq!(profile.id(), TlsProfile::load(&tls).unwrap().id(), "{files:?}");
            assert!(!format!("{profile:?}").contains("PRIVATE"));
        }
    }

    #[test]
    fn the_id_tells_apart_what_differs() {
        let folder = folder();
        let mut all = vec![Tls { ssl_verification: false, ..Tls::default() }];
        for files in [["", "", ""], ["cert.pem", "", ""], ["both.pem", "", ""], ["", "both.pem", ""]] {
            all.push(settings(folder.path(), files));
        }
        let ids: Vec<_> = all.iter().map(|tls| TlsProfile::load(tls).unwrap().id()).collect();
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[at + 1..].contains(id), "{:?}", all[at]);
        }
        assert_eq!(TlsProfile::system().id(), ids[1]);
    }

    #[test]
    fn files_that_cannot_be_used_are_named_with_a_remedy() {
        let folder = folder();
        let messages = [
            ["absent.pem", "", ""],
            ["empty.pem", "", ""],
            ["broken.pem", "", ""],
            ["no.pem", "", ""],
            ["key.pem", "", ""],
            ["", "", "key.pem"],
            ["", "cert.pem", ""],
            ["", "cert.pem", "empty.pem"],
            ["", "cert.pem", "other.pem"],
            ["", "key.pem", "key.pem"],
        ]
        .map(|files| {
            let error = TlsProfile::load(&settings(folder.path(), files)).unwrap_err();
            error.to_string().replace(&folder.path().display().to_string(), "")
        });
        insta::assert_snapshot!(messages.join("\n"));
    }
}
