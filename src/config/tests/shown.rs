//! What is shown of a configuration: where each value came from, its schema, what changed.

use super::*;

fn whole(file: Option<(&Path, &str)>, flags: &[Override], surroundings: &Surroundings) -> Loaded {
    origin::read_whole(file, flags, surroundings).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn shown(file: Option<(&Path, &str)>, flags: &[Override], surroundings: &Surroundings) -> Vec<Group> {
    whole(file, flags, surroundings).shown()
}

fn value_of<'g>(groups: &'g [Group], section: &str, key: &str) -> &'g Shown {
    let group = groups.iter().find(|group| group.name == section).expect("a table");
    group.values.iter().find(|shown| shown.key == key).expect("a key")
}

#[test]
fn every_value_says_where_it_came_from() {
    let text = format!(
        "[bus]\nstream = \"file\"\nmaxlen = 200\nurl = \"redis://ann:hunter2@h\"\n\n[[peers]]\naddress = \"{ID}@a.b\""
    );
    let env =
        with_env(&[("HOME", "/h"), ("AFFERENT_BUS__STREAM", "env"), ("AFFERENT_NODE__LISTEN", "127.0.0.1:1, [::1]:2")]);
    let groups = shown(Some((Path::new("/a.toml"), &text)), &[flag("bus.maxlen=300"), flag("bus.own=true")], &env);
    let at = |section: &str, key: &str| {
        let shown = value_of(&groups, section, key);
        (shown.value.as_ref().map(ToString::to_string).unwrap_or_default(), shown.origin.to_string())
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(at("bus", "url"), pair("\"redis://ann:***@h\"", "/a.toml:4"));
    assert_eq!(at("bus", "stream"), pair("\"env\"", "AFFERENT_BUS__STREAM"));
    assert_eq!(at("bus", "maxlen"), pair("300", "--set bus.maxlen"));
    assert_eq!(at("bus", "own"), pair("true", "--set bus.own"));
    assert_eq!(at("bus", "outbox"), pair("\"mesh:outbox\"", "default"));
    assert_eq!(at("node", "listen"), pair("[\"127.0.0.1:1\", \"[::1]:2\"]", "AFFERENT_NODE__LISTEN"));
    assert_eq!(at("node", "name"), pair("\"birch\"", "default: the host name"));
    assert_eq!(at("node", "data_dir").0, "\"/h/.local/share/afferent\"");
    assert_eq!(at("peers", "address"), pair(&format!("\"{ID}@a.b\""), "/a.toml:7"));
    assert!(!format!("{groups:?}").contains("hunter2"));
}

#[test]
fn what_is_shown_lists_every_key_once() {
    let groups = shown(None, &[], &user());
    let single: Vec<&Field> = FIELDS.iter().filter(|field| !field.is_repeated()).collect();
    assert_eq!(groups.iter().map(|group| group.values.len()).sum::<usize>(), single.len());
    for field in single {
        assert!(value_of(&groups, field.section, field.key).value.is_some(), "{}.{}", field.section, field.key);
    }
}

#[test]
fn the_schema_has_every_key_with_kind_default_and_example() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for field in FIELDS {
        let mut table = &schema;
        for name in field.section.split('.') {
            table = &table["properties"][name];
            table = if table["type"] == "array" { &table["items"] } else { table };
        }
        assert_eq!(table["additionalProperties"], false, "{}", field.section);
        let property = &table["properties"][field.key];
        let kind = |value: &serde_json::Value| match value {
            serde_json::Value::String(_) => "string",
            serde_json::Value::Number(_) => "integer",
            serde_json::Value::Bool(_) => "boolean",
            _ => "array",
        };
        assert_eq!(property["type"], kind(&property["examples"][0]), "{}.{}", field.section, field.key);
        if let Preset::Value(_) = field.preset {
            assert_eq!(property["type"], kind(&property["default"]), "{}.{}", field.section, field.key);
        }
        assert_eq!(table["required"].to_string().contains(&format!("\"{}\"", field.key)), field.is_needed());
    }
}

/// The files in `deploy/` that are made from the table of keys.
#[test]
fn the_files_made_from_the_table_are_current() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let file = |name: &str| std::fs::read_to_string(deploy.join(name)).unwrap_or_default();
    let written = file("afferent.toml");
    assert!(written == template(&[]), "next: cargo run -- config template > deploy/afferent.toml");
    assert_eq!(good(&written), Settings { file: Some("/home/ann/a.toml".into()), ..good("") });
    let expected = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    assert!(file("afferent.schema.json") == expected, "next: cargo run -- config schema > deploy/afferent.schema.json");
}

#[test]
fn a_change_is_named_by_its_key_also_where_the_eye_sees_none() {
    let of = |text: &str| whole(Some((Path::new("/a.toml"), text)), &[], &user());
    let before = of("[bus]\nurl = \"redis://:one@h\"\nown = false");
    let changed = |text: &str| of(text).changed_since(&before);
    assert_eq!(changed("# moved\n[bus]\nown=false\nurl = 'redis://:one@h'"), [""; 0]);
    assert_eq!(changed("[bus]\nurl = \"redis://:two@h\""), ["bus.url"], "the password alone");
    let peer = format!("[node]\nname = \"x\"\n[bus]\nurl = \"redis://:one@h\"\n[[peers]]\naddress = \"{ID}@a.b\"");
    assert_eq!(changed(&peer), ["node.name", "peers.address"]);
}
