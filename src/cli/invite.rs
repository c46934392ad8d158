//! `afferent invite`: what a friend pastes, as a line and as a picture for a camera.

use super::arguments::{Global, Invite};
use super::failure::{Exit, Failure};
use super::output::{Output, plain};
use super::{codes, id};
use crate::admin;
use crate::admin::answers::Identity;
use crate::wire::PeerAddress;

pub(super) async fn perform(invite: &Invite, global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let identity = id::identity("invite", global).await?;
    show(invite, &identity, output)?;
    Ok(Exit::Done)
}

fn show(invite: &Invite, identity: &Identity, output: &mut Output) -> Result<(), Failure> {
    let Some(first) = identity.addresses.first() else {
        let what = "no address of this node is known yet, so nobody could follow the invitation";
        return Err(Failure::new(Exit::Failed, codes::NO_ADDRESS, "invite", what)
            .next("afferent config show, then set node.addresses; or wait until a peer says where it sees this node"));
    };
    if output.is_json() {
        output.json(&admin::document(identity))?;
        return Ok(());
    }
    if invite.qr {
        for line in picture(first)? {
            output.line(&line)?;
        }
    }
    for address in &identity.addresses {
        output.line(&format!("afferent peers add {}", plain(&address.to_string())))?;
    }
    output.remark("a friend types one of these lines; both sides then call each other");
    Ok(())
}

/// A QR code of the address, two rows of it in one line of text, light on dark as terminals are.
fn picture(address: &PeerAddress) -> Result<Vec<String>, Failure> {
    use qrcode::QrCode;
    use qrcode::render::unicode::Dense1x2;

    let what = "the address is too long for a picture";
    let code = QrCode::new(address.to_string())
        .map_err(|_| Failure::new(Exit::Failed, codes::USAGE, "invite", what).next("afferent invite"))?;
    let text = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    Ok(text.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::super::output::tests::pages;
    use super::*;
    use crate::wire::Keypair;

    fn identity(addresses: &[&str]) -> Identity {
        let id = Keypair::from_seed(&[7; 32]).id();
        let addresses = addresses.iter().map(|at| PeerAddress { id: Some(id), at: at.parse().expect("an address") });
        Identity { id, name: "birch".into(), network: "main".into(), addresses: addresses.collect() }
    }

    #[test]
    fn every_line_can_be_typed_by_a_friend() {
        let identity = identity(&["birch.example:7443", "[2a00::1]:7"]);
        let (mut output, results, _) = pages(false);
        show(&Invite { qr: false }, &identity, &mut output).and_then(|()| Ok(output.flush()?)).expect("shown");
        let typed = results.text();
        let address = |line: &str| line.strip_prefix("afferent peers add ").expect("a command").parse();
        let addresses: Vec<PeerAddress> = typed.lines().map(|line| address(line).expect("an address")).collect();
        assert_eq!(addresses, identity.addresses);
    }

    #[test]
    fn the_picture_is_a_square_with_a_quiet_frame() {
        let rows = picture(&identity(&["birch.example:7443"]).addresses[0]).expect("a picture");
        let wide = rows[0].chars().count();
        assert!(rows.iter().all(|row| row.chars().count() == wide) && rows.len() == wide.div_ceil(2), "{wide}");
        assert!((29..=65).contains(&wide), "it fits a terminal: {wide}");
        assert!(
            rows[0].chars().all(|cell| cell == '█') && rows.last().expect("a row").chars().all(|c| "█▀".contains(c))
        );
    }

    #[test]
    fn without_an_address_nobody_is_invited() {
        let (mut output, ..) = pages(false);
        let failure = show(&Invite { qr: true }, &identity(&[]), &mut output).expect_err("nowhere to go");
        assert!(failure.to_string().contains("node.addresses"), "{failure}");
    }
}
