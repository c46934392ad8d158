//! Every effective value with where it came from, for people who wonder why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::document::loose;
use super::fields::{FIELDS, Field, Preset, SECTIONS, is_repeated};
use super::layers::{self, Override};
use super::mistake::{Mistakes, Source};
use super::place::{self, Surroundings};
use super::settings::Settings;
use super::values::redact;
use crate::core::params::Accept;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The file, and the line of the key, from 1.
    File(PathBuf, usize),
    /// This variable of the environment.
    Variable(String),
    /// This flag.
    Flag(String),
    /// Nobody set it.
    Default,
    /// Nobody set it, and it depends on this.
    Derived(&'static str),
}

impl Origin {
    /// The kind in one word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Origin::File(..) => "file",
            Origin::Variable(_) => "environment",
            Origin::Flag(_) => "flag",
            Origin::Default => "default",
            Origin::Derived(_) => "derived",
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
            Origin::Default => f.write_str("default"),
            Origin::Derived(from) => write!(f, "default: {from}"),
        }
    }
}

/// One value in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Shown {
    /// Its name within the table.
    pub key: String,
    /// What holds; `None` = nothing, and nothing is needed.
    pub value: Option<Value>,
    /// Where it came from.
    pub origin: Origin,
}

/// One table in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// Its name, with dots when it lies in another one.
    pub name: String,
    /// One of `[[name]]`: which one, from 0.
    pub index: Option<usize>,
    /// What stands in it.
    pub values: Vec<Shown>,
}

/// A configuration with its values as they were written, passwords included: there is no `Debug`.
pub struct Loaded {
    /// What they mean.
    pub settings: Settings,
    groups: Vec<Group>,
}

/// Reads the configuration as [`super::load`] does, and remembers every value in force.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_whole(flag: Option<&Path>, flags: &[Override], surroundings: &Surroundings) -> Result<Loaded, Mistakes> {
    let file = layers::find_text(flag, surroundings)?;
    read_whole(file.as_ref().map(|(path, text)| (path.as_path(), text.as_str())), flags, surroundings)
}

/// The same as a function of texts.
pub(super) fn read_whole(
    file: Option<(&Path, &str)>,
    flags: &[Override],
    surroundings: &Surroundings,
) -> Result<Loaded, Mistakes> {
    let settings = layers::read(file, flags, surroundings)?;
    let groups = list(file, flags, surroundings, &settings);
    Ok(Loaded { settings, groups })
}

impl Loaded {
    /// Every value in force, passwords masked: all keys of all tables that stand once, then the tables
    /// that the file has besides.
    pub fn shown(&self) -> Vec<Group> {
        let mut groups = self.groups.clone();
        groups.iter_mut().flat_map(|group| &mut group.values).filter_map(|shown| shown.value.as_mut()).for_each(mask);
        groups
    }

    /// Keys that say something else than in `before`, such as `bus.url`; each once.
    pub fn changed_since(&self, before: &Loaded) -> Vec<String> {
        let assignments = |groups: &[Group]| {
            let of = |group: &Group| {
                let named = |shown: &Shown| {
                    let value = shown.value.as_ref().map(ToString::to_string).unwrap_or_default();
                    (format!("{}.{}", group.name, shown.key), group.index, value)
                };
                group.values.iter().map(named).collect::<Vec<_>>()
            };
            groups.iter().flat_map(of).collect::<BTreeSet<_>>()
        };
        let (now, then) = (assignments(&self.groups), assignments(&before.groups));
        let changed = now.symmetric_difference(&then).map(|(name, ..)| name.clone());
        changed.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact(text),
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask(value)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn list(
    file: Option<(&Path, &str)>,
    flags: &[Override],
    surroundings: &Surroundings,
    settings: &Settings,
) -> Vec<Group> {
    let single = SECTIONS.iter().filter(|(name, _)| !is_repeated(name));
    let mut groups: Vec<Group> = single.map(|(name, _)| presets(name, settings)).collect();
    if let Some((path, text)) = file {
        let (root, _) = DeTable::parse_recoverable(text);
        let shown = path.display().to_string();
        let page = Page { path, source: Source { name: &shown, text, is_file: true } };
        page.lay_over(&mut groups, "", None, root.get_ref());
    }
    let variables = place::overrides(surroundings);
    let named = |each: &Override, origin: fn(String) -> Origin| (each.clone(), origin(each.source.clone()));
    let later = variables.iter().map(|each| named(each, Origin::Variable));
    for (each, origin) in later.chain(flags.iter().map(|each| named(each, Origin::Flag))) {
        if let Some(field) = Field::find(&each.section, &each.key) {
            put(&mut groups, &each.section, None, field.key, &loose(&each.value, field.kind), origin);
        }
    }
    groups
}

/// One table as it is when nobody writes anything.
fn presets(section: &str, settings: &Settings) -> Group {
    let shown = |field: &Field| {
        let (value, origin) = match field.preset {
            Preset::Value(text) => (DeValue::parse(text).ok().map(|value| plain(value.get_ref())), Origin::Default),
            Preset::Derived(from) => (derived(field, settings).map(Value::String), Origin::Derived(from)),
        };
        Shown { key: field.key.to_owned(), value, origin }
    };
    let fields = FIELDS.iter().filter(|field| field.section == section);
    Group { name: section.to_owned(), index: None, values: fields.map(shown).collect() }
}

/// What came out for a key whose preset depends on the machine.
fn derived(field: &Field, settings: &Settings) -> Option<String> {
    match (field.section, field.key) {
        ("node", "name") => Some(settings.node.name.to_string()),
        ("node", "accept") => Some(word_of(settings.node.accept_in(settings.node.profile)).to_owned()),
        ("node", "data_dir") => Some(settings.node.data_dir.display().to_string()),
        ("registrar", "key") => Some(settings.registrar_key().display().to_string()),
        ("admin", "socket") => Some(settings.admin.socket.display().to_string()),
        _ => None,
    }
}

fn word_of(accept: Accept) -> &'static str {
    match accept {
        Accept::Open => "open",
        Accept::Ask => "ask",
    }
}

/// A file while it is laid over the presets.
struct Page<'t> {
    path: &'t Path,
    source: Source<'t>,
}

impl Page<'_> {
    fn lay_over(&self, groups: &mut Vec<Group>, name: &str, index: Option<usize>, table: &DeTable<'_>) {
        for (key, value) in table {
            let below = if name.is_empty() { key.get_ref().to_string() } else { format!("{name}.{}", key.get_ref()) };
            match value.get_ref() {
                DeValue::Table(table) => self.lay_over(groups, &below, None, table),
                DeValue::Array(items) if !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()) => {
                    for (i, table) in items.iter().filter_map(|item| item.get_ref().as_table()).enumerate() {
                        self.lay_over(groups, &below, Some(i), table);
                    }
                }
                value => {
                    let line = self.source.place(key.span()).position.map_or(0, |position| position.line);
                    put(groups, name, index, key.get_ref(), value, Origin::File(self.path.to_owned(), line));
                }
            }
        }
    }
}

fn put(groups: &mut Vec<Group>, name: &str, index: Option<usize>, key: &str, value: &DeValue<'_>, origin: Origin) {
    let shown = Shown { key: key.to_owned(), value: Some(plain(value)), origin };
    let at = groups.iter().position(|group| group.name == name && group.index == index);
    let Some(at) = at else {
        return groups.push(Group { name: name.to_owned(), index, values: vec![shown] });
    };
    let values = &mut groups[at].values;
    match values.iter_mut().find(|other| other.key == key) {
        Some(other) => *other = shown,
        None => values.push(shown),
    }
}

/// The value without places.
pub(super) fn plain(value: &DeValue<'_>) -> Value {
    let inner = |value: &Spanned<DeValue<'_>>| plain(value.get_ref());
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string().into(), Value::from)
        }
        DeValue::Float(number) => {
            number.as_str().parse::<f64>().map_or_else(|_| number.to_string().into(), Value::from)
        }
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(moment) => Value::String(moment.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(inner).collect()),
        DeValue::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.get_ref().to_string(), inner(value))).collect())
        }
    }
}
