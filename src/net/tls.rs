//! Who speaks: TLS 1.3 with self-signed certificates whose public key *is* the node.
//!
//! Nobody signs for anybody, so names, dates and issuers mean nothing here. What is checked is that
//! the one certificate carries an Ed25519 key that can be a node id, that it is the expected one, and
//! (in `CertificateVerify`, RFC 8446 section 4.4.3) that the other side holds its secret half.
//!
//! Sessions are never resumed, on either side. A resumed session skips the certificate, so the key
//! would be remembered instead of proved; lanes live for hours, so there would be 71 µs to gain per
//! connection at best (247 µs against 176 µs for both ends).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::settings::StartError;
use crate::wire::{Keypair, NodeId};

/// `SubjectPublicKeyInfo` of an Ed25519 key (RFC 8410 section 4) up to the 32 key bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// HTTP/2 first, on both sides.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Our certificate, and what both sides of TLS are made from.
pub(super) struct Identity {
    provider: Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    server: Arc<ServerConfig>,
}

/// A certificate for a public name, with its key: for a registrar that is known by name.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// Reads two PEM texts: the chain, the server's own certificate first, and the private key.
    ///
    /// # Errors
    /// What is missing; neither text is quoted.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificate, &'static str> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate is not PEM")?;
        if chain.is_empty() {
            return Err("there is no certificate in it");
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "there is no private key in PEM")?;
        Ok(Certificate { chain, key })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} in the chain)", self.chain.len())
    }
}

impl Identity {
    /// Certifies `key` by itself. Validity is 1975 to 4096: readers are asked to ignore it.
    pub(super) fn new(key: &Keypair) -> Result<Identity, StartError> {
        Identity::made(key, None)
    }

    /// The same; callers are shown `shown` instead.
    pub(super) fn showing(key: &Keypair, shown: &Certificate) -> Result<Identity, StartError> {
        Identity::made(key, Some(shown))
    }

    fn made(key: &Keypair, shown: Option<&Certificate>) -> Result<Identity, StartError> {
        let wrong = |error: &dyn fmt::Display| StartError::Certificate(error.to_string());
        let der = PrivatePkcs8KeyDer::from(key.to_pkcs8_der());
        let signer =
            rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(|error| wrong(&error))?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, key.id().short());
        let certificate = params.self_signed(&signer).map_err(|error| wrong(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![certificate.der().clone()];
        let server = match shown {
            None => server_config(&provider, &chain, der.clone_key().into()).map_err(|error| wrong(&error))?,
            Some(shown) => server_config(&provider, &shown.chain, shown.key.clone_key())
                .map_err(|error| StartError::ServerCertificate(error.to_string()))?,
        };
        Ok(Identity { provider, chain, key: der, server: Arc::new(server) })
    }

    /// For the receptor: asks for the caller's certificate and does without it if there is none.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For one lane, and for that one alone: `pin` remembers whom it met.
    pub(super) fn client(&self, pin: &Arc<Pin>) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(pin) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key().into())
            .expect("the certificate was made from this key");
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    /// For a server that is known by its name. It is not told who we are.
    pub(super) fn web_client(&self, roots: RootCertStore) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.resumption = rustls::client::Resumption::disabled();
        config
    }

    /// Watches for `expected`, or for anybody.
    pub(super) fn pin(&self, expected: Option<NodeId>) -> Arc<Pin> {
        Arc::new(Pin { expected, found: Mutex::new(None), provider: Arc::clone(&self.provider) })
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    chain: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(Callers { provider: Arc::clone(provider) }))
        .with_single_cert(chain.to_vec(), key)?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0; // what arrives before the handshake could be replayed
    Ok(config)
}

/// The node that a chain of one certificate names.
pub(super) fn node_of(chain: &[CertificateDer<'_>]) -> Option<NodeId> {
    match chain {
        [one] => node_in(one).ok(),
        _ => None,
    }
}

fn node_in(certificate: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let key: [u8; 32] = spki
        .strip_prefix(&SPKI_PREFIX)
        .and_then(|key| key.try_into().ok())
        .ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
    NodeId::from_public_key(key).map_err(|_| CertificateError::ApplicationVerificationFailure.into())
}

fn only_node(certificate: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<NodeId, Error> {
    if !more.is_empty() {
        return Err(CertificateError::ApplicationVerificationFailure.into());
    }
    node_in(certificate)
}

/// Checks the receptor we call: is it the node we want?
pub(super) struct Pin {
    expected: Option<NodeId>,
    found: Mutex<Option<NodeId>>,
    provider: Arc<CryptoProvider>,
}

impl Pin {
    /// The node whose certificate was shown last. It is proved only if the handshake succeeded.
    pub(super) fn found(&self) -> Option<NodeId> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({:?})", self.expected)
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = only_node(end_entity, intermediates)?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        if self.expected.is_some_and(|expected| expected != found) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Checks who calls on us: anybody with a usable key, or nobody by name.
struct Callers {
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callers")
    }
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        only_node(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
