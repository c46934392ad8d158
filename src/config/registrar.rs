//! `[registrar]`: what `afferent registrar` needs, its keys and how they are read.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::document::Section;
use super::fields::{Field, Kind, derived, field};
use super::settings::Registrar;
use crate::core::registrar::challenge::BITS_MAX;
use crate::wire::NodeId;
use crate::wire::registration::Origin;

const NAME: &str = "registrar";

pub(super) const DISCOVERY: Field = field(
    "discovery",
    "registrar",
    Kind::Text,
    "\"\"",
    &[
        "The registrar that lists this node in the DNS, so that others begin with it: https://host, or",
        "mesh://<key>@host:port; \"\" = none. `node.addresses` names the IP address that it calls from.",
    ],
)
.like("\"https://registrar.example.org\"");
pub(super) const ZONE: Field = field(
    NAME,
    "zone",
    Kind::Text,
    "\"\"",
    &["The zone it writes to, such as mesh.example.org; \"\" = this is no registrar."],
)
.like("\"mesh.example.org\"");
pub(super) const SERVER: Field = field(
    NAME,
    "server",
    Kind::Text,
    "\"\"",
    &[
        "The primary name server of the zone, IP address and port. It takes updates (RFC 2136) signed with",
        "the key of `tsig`, and had better allow transfers with it too.",
    ],
)
.like("\"127.0.0.1:53\"");
pub(super) const TSIG: Field = field(
    NAME,
    "tsig",
    Kind::Text,
    "\"\"",
    &["A file with the key that is shared with the name server, as `tsig-keygen NAME` prints it."],
)
.like("\"/etc/afferent/registrar.tsig\"");
pub(super) const KEY: Field = derived(
    NAME,
    "key",
    Kind::Text,
    "\"/var/lib/afferent/registrar.key\"",
    "registrar.key in node.data_dir",
    &[
        "The file with the key that signs the list, made at the first start. Clients pin it: keep a copy,",
        "another key is another registrar. Registrars of one zone share it, or are `fellows`.",
    ],
);
pub(super) const FELLOWS: Field = field(
    NAME,
    "fellows",
    Kind::List,
    "[]",
    &["Keys of other registrars of this zone, as the log of each says at its start."],
)
.like("[\"<id>\"]");
pub(super) const LISTEN: Field = field(
    NAME,
    "listen",
    Kind::List,
    "[\"[::]:8443\"]",
    &["Where nodes register, by HTTPS. No proxy in front: it would hide who calls."],
);
pub(super) const ORIGIN: Field = field(
    NAME,
    "origin",
    Kind::Text,
    "\"\"",
    &[
        "What nodes call it: https://host with `certificate`, mesh://<key>@host:port without;",
        "\"\" = mesh://<key>@ and the first of `listen`.",
    ],
)
.like("\"https://registrar.example.org\"");
pub(super) const CERTIFICATE: Field = field(
    NAME,
    "certificate",
    Kind::Text,
    "\"\"",
    &["The certificate chain for the name in `origin`, a PEM file; \"\" = nodes know it by its own key."],
)
.like("\"/etc/afferent/registrar.pem\"");
pub(super) const CERTIFICATE_KEY: Field =
    field(NAME, "certificate_key", Kind::Text, "\"\"", &["The private key of `certificate`, a PEM file."])
        .like("\"/etc/afferent/registrar-key.pem\"");
pub(super) const PLACES: Field =
    field(NAME, "places", Kind::Integer, "40", &["Entries of the list, 8 to 100. A client takes 32 of them at most."]);
pub(super) const NEWCOMERS_PERCENT: Field = field(
    NAME,
    "newcomers_percent",
    Kind::Integer,
    "20",
    &[
        "Percent of the places for nodes that were listed less than 7 days ago, 1 to 100.",
        "More fills a new zone sooner, and lets somebody with many addresses in sooner.",
    ],
);
pub(super) const NEWCOMERS_PER_HOUR: Field =
    field(NAME, "newcomers_per_hour", Kind::Integer, "4", &["How many new nodes are listed in an hour, 1 to 1000."]);
pub(super) const WORK_BITS: Field = field(
    NAME,
    "work_bits",
    Kind::Integer,
    "20",
    &["What a registration costs the node, 0 to 26: one more is twice the work, 20 a fifth of a second."],
);
pub(super) const METRICS: Field = field(
    NAME,
    "metrics",
    Kind::Text,
    "\"\"",
    &[
        "Where the registrar's /metrics is served over TCP, an address of loopback such as 127.0.0.1:9465;",
        "\"\" = nowhere. Not `metrics.listen`: a node may run beside with the same configuration.",
    ],
)
.like("\"127.0.0.1:9465\"");

/// Reads the table over what was read before.
pub(super) fn read(section: &mut Section<'_, '_>, target: &mut Registrar) {
    fn put<T>(target: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *target = value;
        }
    }
    put(&mut target.zone, section.text("zone", |text| optional(text, str::parse)));
    put(&mut target.server, section.text("server", |text| optional(text, server)));
    put(&mut target.tsig, section.text("tsig", |text| optional(text, absolute)));
    put(&mut target.key, section.text("key", absolute).map(Some));
    put(&mut target.fellows, section.list("fellows", str::parse::<NodeId>));
    put(&mut target.listen, section.list("listen", server));
    put(&mut target.origin, section.text("origin", origin));
    put(&mut target.certificate, section.text("certificate", |text| optional(text, absolute)));
    put(&mut target.certificate_key, section.text("certificate_key", |text| optional(text, absolute)));
    put(&mut target.metrics, section.text("metrics", super::texts::scraped));
    let policy = &mut target.policy;
    put(&mut policy.places, section.integer("places", 8..=100).and_then(|number| usize::try_from(number).ok()));
    let percent = section.integer("newcomers_percent", 1..=100);
    put(&mut policy.newcomers_percent, percent.and_then(|number| u8::try_from(number).ok()));
    let per_hour = section.integer("newcomers_per_hour", 1..=1_000);
    put(&mut policy.newcomers_per_hour, per_hour.and_then(|number| usize::try_from(number).ok()));
    let bits = section.integer("work_bits", 0..=BITS_MAX.into());
    put(&mut policy.work_bits, bits.and_then(|number| u8::try_from(number).ok()));
    if target.listen.is_empty() {
        let why = "a registrar that listens nowhere is asked by nobody";
        section.refuse("`registrar.listen` is empty".to_owned(), why, "write `listen = [\"[::]:8443\"]`".to_owned());
    }
}

/// `[discovery] registrar`.
pub(super) fn origin(text: &str) -> Result<Option<Origin>, String> {
    optional(text, str::parse)
}

/// What is needed and not there, of a configuration that a registrar is started with: the key, and why.
pub(super) fn lacks(registrar: &Registrar) -> Option<(&'static Field, &'static str)> {
    let needed = "a registrar cannot do without it";
    match registrar {
        Registrar { zone: None, .. } => Some((&ZONE, needed)),
        Registrar { server: None, .. } => Some((&SERVER, needed)),
        Registrar { tsig: None, .. } => Some((&TSIG, needed)),
        Registrar { certificate: Some(_), certificate_key: None, .. } => {
            Some((&CERTIFICATE_KEY, "`registrar.certificate` is set, and each is worth nothing without the other"))
        }
        Registrar { certificate: None, certificate_key: Some(_), .. } => {
            Some((&CERTIFICATE, "`registrar.certificate_key` is set, and each is worth nothing without the other"))
        }
        Registrar { certificate: Some(_), origin: None, .. } => {
            Some((&ORIGIN, "`registrar.certificate` is set, and says nothing to nodes but under its name"))
        }
        _ => None,
    }
}

fn optional<T, E: Display>(text: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some).map_err(|why| why.to_string()) }
}

fn server(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an IP address and a port are expected, such as `192.0.2.53:53` or `[::]:8443`")
}

fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("an absolute path is expected") }
}

#[cfg(test)]
mod tests {
    use super::super::layers::read as read_all;
    use super::super::place::Surroundings;
    use super::super::settings::Settings;
    use super::*;

    fn settings(text: &str) -> Settings {
        let home = std::path::Path::new("/srv/a.toml");
        let surroundings = Surroundings { is_root: true, host: "birch".to_owned(), ..Surroundings::default() };
        read_all(Some((home, text)), &[], &surroundings).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn everything_about_a_registrar_is_read() {
        let id = crate::wire::Keypair::from_seed(&[1; 32]).id();
        let text = format!(
            "[discovery]\nregistrar = \"mesh://{id}@192.0.2.9:8443\"\n[registrar]\nzone = \"mesh.example\"\n\
             server = \"192.0.2.53:53\"\ntsig = \"/a\"\nkey = \"/b\"\nfellows = [\"{id}\"]\nlisten = [\"0.0.0.0:443\"]\n\
             origin = \"https://registrar.example\"\ncertificate = \"/c\"\ncertificate_key = \"/d\"\nplaces = 30\n\
             newcomers_percent = 50\nnewcomers_per_hour = 9\nwork_bits = 12\n\
             metrics = \"127.0.0.1:9465\"\n"
        );
        let Settings { registrar, discovery, .. } = settings(&text);
        assert!(lacks(&registrar).is_none());
        let policy = &registrar.policy;
        let figures = (policy.places, policy.newcomers_percent, policy.newcomers_per_hour, policy.work_bits);
        assert_eq!(figures, (30, 50, 9, 12));
        assert_eq!(registrar.origin.map(|origin| origin.to_string()), Some("https://registrar.example".to_owned()));
        assert_eq!(discovery.registrar.map(|origin| origin.place().port), Some(8443));
        assert_eq!((registrar.fellows, registrar.listen.len()), (vec![id], 1));
        assert_eq!(registrar.metrics.map(|at| at.port()), Some(9465));
    }

    #[test]
    fn a_configuration_of_a_node_is_no_registrar_and_says_what_it_lacks() {
        let mut text = "[registrar]\n".to_owned();
        for (lacking, line) in
            [("zone", "zone = \"mesh.example\""), ("server", "server = \"192.0.2.53:53\""), ("tsig", "tsig = \"/a\"")]
        {
            let (name, _, next) = settings(&text).registrar_lacks().expect("something");
            assert_eq!(name, format!("registrar.{lacking}"));
            assert!(next.contains(&format!("{lacking} = ")), "{next}");
            text += &format!("{line}\n");
        }
        assert_eq!(settings(&text).registrar_lacks(), None);
        for (half, other) in [("certificate", "certificate_key"), ("certificate_key", "certificate")] {
            let text = format!("{text}{half} = \"/c\"\n");
            let lacking = settings(&text).registrar_lacks().map(|(name, ..)| name);
            assert_eq!(lacking, Some(format!("registrar.{other}")));
        }
        let nameless = settings(&format!("{text}certificate = \"/c\"\ncertificate_key = \"/d\"\n")).registrar_lacks();
        assert_eq!(nameless.map(|(name, ..)| name), Some("registrar.origin".to_owned()));
    }
}
