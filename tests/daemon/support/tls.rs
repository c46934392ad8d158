//! Clients that trust any certificate: nameless, or with the key of a node.

use std::sync::Arc;

use afferent::wire::Keypair;
use afferent::wire::message::LINES_TYPE;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::Daemon;

/// Offers one protocol.
pub(crate) fn config(alpn: &[u8]) -> rustls::ClientConfig {
    let mut tls = trusting().with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls
}

fn trusting() -> rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyNode))
}

pub(crate) fn client() -> reqwest::Client {
    over(config(b"h2"))
}

fn over(tls: rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().expect("a client")
}

/// Posts lines to a route of a daemon, by a connection that proves this key; gives the status.
pub(crate) fn post(daemon: &Daemon, key: Option<&Keypair>, route: &str, lines: &[&str]) -> u16 {
    let client = key.map_or_else(client, client_of);
    let url = format!("https://{}:{}{route}", daemon.host, daemon.port);
    let request = client.post(url).header("content-type", LINES_TYPE).body(lines.join("\n"));
    runtime().block_on(async { request.send().await.expect("an answer").status().as_u16() })
}

/// What a nameless client is answered with.
pub(crate) fn get(daemon: &Daemon, route: &str) -> serde_json::Value {
    let request = client().get(format!("https://{}:{}{route}", daemon.host, daemon.port));
    let text = runtime().block_on(async { request.send().await.expect("an answer").text().await.expect("a body") });
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Shows a certificate made of this key, as nodes do.
fn client_of(key: &Keypair) -> reqwest::Client {
    let der = PrivatePkcs8KeyDer::from(key.to_pkcs8_der());
    let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&signer).expect("a certificate");
    let tls = trusting().with_client_auth_cert(vec![certificate.der().clone()], der.into());
    let mut tls = tls.expect("the certificate is of this key");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    over(tls)
}

/// Trusts any certificate: what is tested is what the daemon makes of strangers.
#[derive(Debug)]
struct AnyNode;

impl ServerCertVerifier for AnyNode {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
