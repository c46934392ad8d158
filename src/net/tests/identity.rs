//! Who speaks: pins, nameless callers, and why nobody is remembered from an earlier connection.

use super::*;
use rustls::HandshakeKind;

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
    assert_eq!(identify(&birch.context, &cedar.place()).await, Ok(cedar.id()));
    let own = identify(&birch.context, &birch.place()).await.expect_err("itself");
    assert!(own.contains("this node itself"), "{own}");
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = HostPort::from_socket(plain.local_addr().expect("bound"));
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a connection");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let why = identify(&birch.context, &at).await.expect_err("no TLS");
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
        .with_client_auth_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(other.serialize_der()).into(),
        )
        .expect("a configuration");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Our verifier offers Ed25519 alone, so the client shows nothing: it is nameless, not refused.
    let mut stream = connect_by(node.at, Arc::new(config)).await.expect("a connection");
    stream.write_all(request("POST", "/mesh/v1/peers", "").as_bytes()).await.expect("bytes are taken");
    assert_eq!(read_reply(&mut stream).await.status, 403);
    node.still_takes_events().await;
}

#[test]
fn the_id_of_a_chain_is_that_of_its_only_certificate() {
    let key = key(4);
    let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
        &rustls::pki_types::PrivatePkcs8KeyDer::from(key.to_pkcs8_der()),
        &rcgen::PKCS_ED25519,
    )
    .expect("a key");
    let certificate = rcgen::CertificateParams::default().self_signed(&signer).expect("a certificate").der().clone();
    assert_eq!(tls::node_of(std::slice::from_ref(&certificate)), Some(key.id()));
    assert_eq!(tls::node_of(&[certificate.clone(), certificate]), None);
    assert_eq!(tls::node_of(&[]), None);
    assert_eq!(tls::node_of(&[b"not a certificate".to_vec().into()]), None);
}
