//! Who speaks: pins, nameless callers, and why nobody is remembered from an earlier connection.

use super::*;
use rustls::HandshakeKind;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

async fn hello(node: &Node, caller: Option<&Keypair>, query: &str) -> Reply {
    node.ask(caller, &request("GET", &format!("/mesh/v1/hello{query}"), "")).await
}

#[tokio::test]
async fn hello_is_signed_for_this_asker_and_nonce() {
    let node = Node::start(1).await;
    let caller = key(3);
    for asker in [Some(&*caller), None] {
        let answer = hello(&node, asker, "?nonce=n-1").await;
        assert_eq!(answer.status, 200);
        let hello: crate::wire::message::Hello = serde_json::from_str(&answer.text).expect("a hello");
        let asker = asker.map(Keypair::id);
        assert!(hello.is_answer_of(&node.id(), asker.as_ref(), "n-1"));
        assert!(hello.observed.starts_with("127.0.0.1:"));
        assert_eq!(hello.record, *record_line(&node.key, 1));
    }
    for query in ["", "?nonce=", "?nonce=a%20b", "?x=1", &format!("?nonce={}", "n".repeat(65))] {
        assert_eq!(hello(&node, None, query).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn every_connection_proves_its_key_anew() {
    let node = Node::start(1).await;
    let mut config = client_config(Some(&key(3)), b"http/1.1");
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    for _ in 0..3 {
        let mut stream = connect_by(node.at, Arc::clone(&config)).await.expect("a connection");
        stream.write_all(request("POST", "/mesh/v1/peers", "").as_bytes()).await.expect("bytes are taken");
        assert_eq!(read_reply(&mut stream).await.status, 200, "the key is seen each time");
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn tofu_finds_the_id_and_knows_itself() {
    let (birch, cedar) = (Node::start(1).await, Node::start(2).await);
    assert_eq!(identify(&birch.context, &cedar.place(), Word::Typed).await, Ok(cedar.id()));
    let own = identify(&birch.context, &birch.place(), Word::Typed).await;
    assert_eq!(own, Ok(birch.id()), "what that means the asker knows");
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = HostPort::from_socket(plain.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let why = identify(&birch.context, &at, Word::Typed).await.expect_err("no TLS");
    assert!(why.contains("does not speak TLS 1.3 with a node key"), "{why}");
}

#[tokio::test]
async fn only_tls_13_and_ed25519_certificates_are_spoken_to() {
    let node = Node::start(1).await;
    let identity = tls::Identity::new(&key(3)).expect("an identity");
    // A certificate with another kind of key: its owner cannot be a node.
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&other).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(identity.pin(None))
        .with_client_auth_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(other.serialize_der()).into())
        .expect("a configuration");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Our verifier offers Ed25519 alone, so the client shows nothing: it is nameless, not refused.
    let mut stream = connect_by(node.at, Arc::new(config)).await.expect("a connection");
    stream.write_all(request("POST", "/mesh/v1/peers", "").as_bytes()).await.expect("bytes are taken");
    assert_eq!(read_reply(&mut stream).await.status, 403);
    node.still_takes_events().await;
}

/// The certificate of one node with the secret key of another: what a thief of certificates has.
#[derive(Debug)]
struct Stolen(Arc<CertifiedKey>);

impl Stolen {
    fn of(victim: &Keypair, thief: &Keypair) -> Arc<Stolen> {
        let key = PrivatePkcs8KeyDer::from(thief.to_pkcs8_der()).into();
        let key = rustls::crypto::ring::sign::any_eddsa_type(match &key {
            rustls::pki_types::PrivateKeyDer::Pkcs8(key) => key,
            _ => unreachable!("made from PKCS#8"),
        });
        Arc::new(Stolen(Arc::new(CertifiedKey::new(vec![certificate(victim)], key.expect("a key")))))
    }
}

impl rustls::client::ResolvesClientCert for Stolen {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl rustls::server::ResolvesServerCert for Stolen {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn certificate(key: &Keypair) -> CertificateDer<'static> {
    let der = PrivatePkcs8KeyDer::from(key.to_pkcs8_der());
    let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a key");
    rcgen::CertificateParams::default().self_signed(&signer).expect("a certificate").der().clone()
}

#[tokio::test]
async fn a_certificate_without_its_key_names_nobody() {
    let mut node = Node::start(1).await;
    let (victim, thief) = (key(3), key(4));
    let mut config = client_config(Some(&thief), b"http/1.1");
    config.client_auth_cert_resolver = Stolen::of(&victim, &thief);
    if let Ok(mut stream) = connect_by(node.at, Arc::new(config)).await {
        // In TLS 1.3 the client is done first; the refusal comes with the first answer.
        let _ = stream.write_all(request("POST", "/mesh/v1/peers", &record_line(&victim, 1)).as_bytes()).await;
        assert_eq!(read_reply(&mut stream).await.status, 0);
    }
    assert!(node.context.counters().requests.value() == 0);

    // The other way round: a receptor that shows the certificate of the node we call.
    let mut server = (*tls::Identity::new(&thief).expect("an identity").server()).clone();
    server.cert_resolver = Stolen::of(&victim, &thief);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = HostPort::from_socket(listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = tokio_rustls::TlsAcceptor::from(Arc::new(server.clone())).accept(stream).await;
        }
    });
    assert!(identify(&node.context, &at, Word::Typed).await.is_err());
    let _lane = open(&node.context, victim.id(), LaneId(1), vec![at], Word::Near, node.reports.clone());
    let why = lanes::broken(&mut node).await;
    assert!(why.contains("does not speak TLS 1.3 with a node key"), "{why}");
}

#[test]
fn the_id_of_a_chain_is_that_of_its_only_certificate() {
    let key = key(4);
    let certificate = certificate(&key);
    assert_eq!(tls::node_of(std::slice::from_ref(&certificate)), Some(key.id()));
    assert_eq!(tls::node_of(&[certificate.clone(), certificate]), None);
    assert_eq!(tls::node_of(&[]), None);
    assert_eq!(tls::node_of(&[b"not a certificate".to_vec().into()]), None);
}

#[tokio::test]
async fn every_listen_address_is_served() {
    let listen = ["127.0.0.1:0", "127.0.0.2:0"].map(|text| text.parse().expect("an address"));
    let (mut settings, _strings) = settings(1);
    settings.listen = listen.to_vec();
    let context = Context::new(settings).expect("a context");
    let receptor = Receptor::bind(&context).await.expect("two ports");
    let addresses = receptor.addresses().to_vec();
    assert!(addresses.iter().all(|address| address.port() != 0));
    let (reports, _inbox) = mpsc::channel(1);
    let (_stop, stop) = watch::channel(false);
    tokio::spawn(receptor.run(reports, stop));
    for address in addresses {
        let mut stream = connect(address, None, b"http/1.1").await.expect("a connection");
        stream.write_all(b"GET /mesh/v1/health HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("bytes are taken");
        assert_eq!(read_reply(&mut stream).await.status, 200);
    }
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let (mut settings, _strings) = settings(1);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    settings.listen = vec![taken.local_addr().expect("bound")];
    let context = Context::new(settings).expect("a context");
    let error = Receptor::bind(&context).await.expect_err("the port is taken");
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"), "{error}");
}
