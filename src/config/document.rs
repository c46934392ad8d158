//! One layer as tables of values that know where they stand. Readers take what they know; what is
//! left over is unknown.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fields::{FIELDS, Field, Kind, SECTIONS, is_repeated};
use super::mistake::{Mistake, Place, Source};

type Value<'t> = Spanned<DeValue<'t>>;

/// A layer being read, and everything found wrong with it so far.
pub(super) struct Document<'t> {
    source: Source<'t>,
    root: BTreeMap<String, (Range<usize>, Value<'t>)>,
    /// Found so far.
    pub(super) mistakes: Vec<Mistake>,
}

/// One table of a layer.
pub(super) struct Section<'d, 't> {
    name: &'static str,
    source: Source<'t>,
    /// Where the table stands.
    place: Range<usize>,
    left: BTreeMap<String, (Range<usize>, Value<'t>)>,
    mistakes: &'d mut Vec<Mistake>,
}

fn entries<'t>(table: DeTable<'t>) -> BTreeMap<String, (Range<usize>, Value<'t>)> {
    table.into_iter().map(|(key, value)| (key.get_ref().to_string(), (key.span(), value))).collect()
}

/// A value as it stands in a variable or a flag: the text itself for a string, TOML for everything
/// else, a list also as `a,b`.
pub(super) fn loose(text: &str, kind: Kind) -> DeValue<'_> {
    match kind {
        Kind::Text => DeValue::String(text.into()),
        Kind::List if !text.trim_start().starts_with('[') => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            let span = 0..text.len();
            DeValue::Array(words.map(|word| Spanned::new(span.clone(), DeValue::String(word.into()))).collect())
        }
        Kind::List | Kind::Integer | Kind::Flag => match DeValue::parse(text) {
            Ok(value) => value.into_inner(),
            // Not even TOML: as text it is of the wrong kind, and reported as that.
            Err(_) => DeValue::String(text.into()),
        },
    }
}

impl<'t> Document<'t> {
    /// Parses a file.
    pub(super) fn of_file(source: Source<'t>) -> Document<'t> {
        let (table, errors) = DeTable::parse_recoverable(source.text);
        let mistakes = errors.iter().map(|error| syntax(&source, error)).collect();
        Document { source, root: entries(table.into_inner()), mistakes }
    }

    /// One `section.key` with a value as it stands in a variable or a flag.
    pub(super) fn of_value(source: Source<'t>, field: &'static Field) -> Document<'t> {
        let span = 0..source.text.len();
        let mut document = Document { source, root: BTreeMap::new(), mistakes: Vec::new() };
        let mut table = DeTable::new();
        let value = loose(source.text, field.kind);
        table.insert(Spanned::new(span.clone(), field.key.into()), Spanned::new(span.clone(), value));
        let table = Spanned::new(span.clone(), DeValue::Table(table));
        document.root.insert(field.section.to_owned(), (span, table));
        document
    }

    /// True when the text could be parsed: only then is it worth reading.
    pub(super) fn is_sound(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Reads one `[name]` table with `read`; whatever that leaves is unknown.
    pub(super) fn section(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_, 't>)) {
        let Some((place, value)) = self.root.remove(name) else { return };
        self.table(name, place, value, read);
    }

    /// Reads each of `[[name]]`.
    pub(super) fn sections(&mut self, name: &'static str, mut read: impl FnMut(&mut Section<'_, 't>)) {
        let Some((place, value)) = self.root.remove(name) else { return };
        match value.into_inner() {
            DeValue::Array(tables) => {
                for table in tables {
                    let place = table.span();
                    self.table(name, place, table, &mut read);
                }
            }
            _ => self.mistakes.push(single(name, self.source.place(place))),
        }
    }

    fn table(
        &mut self,
        name: &'static str,
        place: Range<usize>,
        value: Value<'t>,
        read: impl FnOnce(&mut Section<'_, 't>),
    ) {
        table(self.source, &mut self.mistakes, name, place, value, read);
    }

    /// Whatever table nobody read is unknown.
    pub(super) fn close(mut self) -> Vec<Mistake> {
        for (name, (span, _)) in std::mem::take(&mut self.root) {
            self.mistakes.push(unknown_section(&name, self.source.place(span)));
        }
        self.mistakes
    }
}

fn table<'t>(
    source: Source<'t>,
    mistakes: &mut Vec<Mistake>,
    name: &'static str,
    place: Range<usize>,
    value: Value<'t>,
    read: impl FnOnce(&mut Section<'_, 't>),
) {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => {
            let mut section = Section { name, source, place, left: entries(table), mistakes };
            read(&mut section);
            section.close();
        }
        other => mistakes.push(Mistake {
            code: "AF0104",
            what: format!("`{name}` is {}", kind_of(&other)),
            why: format!("a table of keys is expected here, after {}", header(name)),
            next: format!("write {} on a line of its own and the keys below it", header(name)),
            place: Some(source.place(span)),
        }),
    }
}

fn header(name: &str) -> String {
    if is_repeated(name) { format!("[[{name}]]") } else { format!("[{name}]") }
}

fn single(name: &str, place: Place) -> Mistake {
    Mistake {
        code: "AF0104",
        what: format!("`{name}` is written as a single table"),
        why: format!("there may be many: each begins with [[{name}]]"),
        next: format!("write [[{name}]] with two brackets"),
        place: Some(place),
    }
}

impl<'t> Section<'_, 't> {
    /// Reads each of `[[name]]` below this table, where it is called `key`.
    pub(super) fn tables(&mut self, key: &str, name: &'static str, mut read: impl FnMut(&mut Section<'_, 't>)) {
        let Some((place, value)) = self.left.remove(key) else { return };
        match value.into_inner() {
            DeValue::Array(all) => {
                for each in all {
                    let place = each.span();
                    table(self.source, self.mistakes, name, place, each, &mut read);
                }
            }
            _ => self.mistakes.push(single(name, self.source.place(place))),
        }
    }

    /// Reads each `[key.NAME]` below this table: its name, and lines `field = "text"` as `parse` reads
    /// field and text.
    pub(super) fn named<T, E: Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str, &str) -> Result<T, E>,
    ) -> BTreeMap<String, Vec<(String, T)>> {
        let mut named = BTreeMap::new();
        let Some((place, value)) = self.left.remove(key) else { return named };
        let header = format!("[{}.{key}.NAME]", self.name);
        let DeValue::Table(tables) = value.into_inner() else {
            self.misshapen(&header, place);
            return named;
        };
        for (name, (place, value)) in entries(tables) {
            let DeValue::Table(lines) = value.into_inner() else {
                self.misshapen(&header, place);
                continue;
            };
            let mut fields = Vec::new();
            for (field, (place, value)) in entries(lines) {
                match value.get_ref().as_str().map(|text| parse(&field, text)) {
                    Some(Ok(parsed)) => fields.push((field, parsed)),
                    Some(Err(why)) => self.mistakes.push(Mistake {
                        code: "AF0105",
                        what: format!(
                            "the field `{}` of [{}.{key}.{}] cannot be used",
                            values_shown(&field),
                            self.name,
                            values_shown(&name)
                        ),
                        why: why.to_string(),
                        next: "write something like `kind = \"type\"` or `user = \"data.user.name\"`".to_owned(),
                        place: Some(self.source.place(value.span())),
                    }),
                    None => self.misshapen(&header, place),
                }
            }
            named.insert(name, fields);
        }
        named
    }

    fn misshapen(&mut self, header: &str, place: Range<usize>) {
        self.mistakes.push(Mistake {
            code: "AF0104",
            what: format!("{header} is of the wrong kind"),
            why: "it is a table of lines `field = \"text\"`".to_owned(),
            next: format!("write {header} on a line of its own and lines such as `kind = \"type\"` below it"),
            place: Some(self.source.place(place)),
        });
    }

    /// The text under `key`, as `parse` reads it.
    pub(super) fn text<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.take(key, Kind::Text)?;
        let read = parse(value.get_ref().as_str().unwrap_or_default());
        read.map_err(|why| self.unusable(key, &why, value.span())).ok()
    }

    /// The texts under `key`, each as `parse` reads it.
    pub(super) fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let value = self.take(key, Kind::List)?;
        let (mut read, count_before) = (Vec::new(), self.mistakes.len());
        for item in value.get_ref().as_array().into_iter().flat_map(|array| array.iter()) {
            match item.get_ref().as_str().map(&mut parse) {
                Some(Ok(item)) => read.push(item),
                Some(Err(why)) => self.unusable(key, &why, item.span()),
                None => self.wrong_kind(key, Kind::List, item),
            }
        }
        (self.mistakes.len() == count_before).then_some(read)
    }

    /// The number under `key`.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key, Kind::Integer)?;
        let number = value.get_ref().as_integer()?;
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let why = format!("a number from {} to {} is expected", range.start(), range.end());
                self.unusable(key, &why, value.span());
                None
            }
        }
    }

    /// The flag under `key`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.take(key, Kind::Flag)?.get_ref().as_bool()
    }

    /// A key that this version has no use for: only the value that means "off" is taken.
    pub(super) fn off(&mut self, key: &'static str, why: &str) {
        let field = self.field(key);
        let Some(value) = self.take(key, field.kind) else { return };
        let is_off = match value.get_ref() {
            DeValue::String(text) => text.is_empty(),
            DeValue::Array(items) => items.is_empty(),
            DeValue::Boolean(flag) => !flag,
            DeValue::Integer(number) => number.as_str() == "0",
            _ => false,
        };
        if !is_off {
            let next = format!("write `{key} = {}`, or leave the line out", field.example);
            self.unavailable(key, why, next, value.span());
        }
    }

    /// A key that every table of this name has.
    pub(super) fn needs(&mut self, key: &'static str) {
        let field = self.field(key);
        self.mistakes.push(Mistake {
            code: "AF0107",
            what: format!("`{key}` is missing in [[{}]]", self.name),
            why: "every one has it".to_owned(),
            next: format!("write `{key} = {}` below it", field.example),
            place: Some(self.source.place(self.place.clone())),
        });
    }

    /// True when `key` was written and not read yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Something about a whole table that only its reader can see.
    pub(super) fn refuse(&mut self, what: String, why: &str, next: String) {
        let place = Some(self.source.place(self.place.clone()));
        self.mistakes.push(Mistake { code: "AF0105", what, why: why.to_owned(), next, place });
    }

    fn field(&self, key: &'static str) -> &'static Field {
        Field::find(self.name, key).expect("every key that is read stands in FIELDS")
    }

    fn take(&mut self, key: &'static str, kind: Kind) -> Option<Value<'t>> {
        debug_assert_eq!(self.field(key).kind, kind, "{key} is read as FIELDS says");
        let (_, value) = self.left.remove(key)?;
        let fits = match kind {
            Kind::Text => value.get_ref().is_str(),
            Kind::Integer => value.get_ref().is_integer(),
            Kind::Flag => value.get_ref().is_bool(),
            Kind::List => value.get_ref().is_array(),
        };
        if !fits {
            self.wrong_kind(key, kind, &value);
        }
        fits.then_some(value)
    }

    fn wrong_kind(&mut self, key: &'static str, kind: Kind, value: &Value<'t>) {
        self.mistakes.push(Mistake {
            code: "AF0104",
            what: format!("`{}.{key}` is of the wrong kind", self.name),
            why: format!("{} is expected, this is {}", kind.noun(), kind_of(value.get_ref())),
            next: format!("write `{key} = {}`", self.field(key).example),
            place: Some(self.source.place(value.span())),
        });
    }

    fn unusable(&mut self, key: &'static str, why: &dyn Display, span: Range<usize>) {
        self.mistakes.push(Mistake {
            code: "AF0105",
            what: format!("`{}.{key}` cannot be used", self.name),
            why: why.to_string(),
            next: format!("write something like `{key} = {}`", self.field(key).example),
            place: Some(self.source.place(span)),
        });
    }

    fn unavailable(&mut self, key: &'static str, why: &str, next: String, span: Range<usize>) {
        self.mistakes.push(Mistake {
            code: "AF0106",
            what: format!("`{}.{key}` asks for what this version does not have", self.name),
            why: why.to_owned(),
            next,
            place: Some(self.source.place(span)),
        });
    }

    fn close(self) {
        for (key, (span, _)) in self.left {
            self.mistakes.push(unknown_key(self.name, &key, Some(self.source.place(span))));
        }
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with decimals",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn syntax(source: &Source<'_>, error: &toml::de::Error) -> Mistake {
    let (first, rest) = error.message().split_once('\n').unwrap_or((error.message(), ""));
    let why = if rest.is_empty() { first.to_owned() } else { format!("{first}; {}", rest.replace('\n', "; ")) };
    Mistake {
        code: "AF0102",
        what: "not valid TOML".to_owned(),
        why,
        next: "a line is `key = value`, text in quotes, tables as [name]: compare with `afferent config template`"
            .to_owned(),
        place: Some(source.place(error.span().unwrap_or(0..0))),
    }
}

/// What is said of a key that is not in the table.
pub(super) fn unknown_key(section: &str, key: &str, place: Option<Place>) -> Mistake {
    let siblings: Vec<&str> = FIELDS.iter().filter(|field| field.section == section).map(|field| field.key).collect();
    let elsewhere = FIELDS.iter().find(|field| field.key == key);
    let next = match (nearest(key, &siblings), elsewhere) {
        (Some(near), _) => format!("write `{near}`"),
        (None, Some(field)) => format!("`{key}` belongs to [{}]", field.section),
        (None, None) => "leave the line out".to_owned(),
    };
    Mistake {
        code: "AF0103",
        what: format!("unknown key `{}` in [{section}]", values_shown(key)),
        why: format!("the keys of [{section}] are {}", siblings.join(", ")),
        next,
        place,
    }
}

fn unknown_section(name: &str, place: Place) -> Mistake {
    let known: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
    let owner = FIELDS.iter().find(|field| field.key == name);
    let next = match (owner, nearest(name, &known)) {
        (Some(field), _) => format!("`{name}` belongs below [{}]", field.section),
        (None, Some(near)) => format!("write [{near}]"),
        (None, None) => "leave it out".to_owned(),
    };
    Mistake {
        code: "AF0103",
        what: format!("unknown table or key `{}`", values_shown(name)),
        why: format!("the tables are {}", known.join(", ")),
        next,
        place: Some(place),
    }
}

/// A key of the operator's as it may be printed.
fn values_shown(key: &str) -> String {
    key.chars().filter(|letter| !letter.is_control()).take(64).collect()
}

/// The word that was probably meant.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&word, other);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    let is_part = |other: &str| word.len() >= 3 && (other.contains(&*word) || word.contains(other));
    (likeness(best) >= 0.6 || is_part(best)).then_some(*best)
}
