//! One row for each key of a run file: its table, its name, its default, its range, and one sentence.
//!
//! Three things come from the rows: the defaults that the run file's types name, the check of every number
//! (`out_of_range`), and the table in `runs/README.md` (`markdown`; a test compares). What two keys must be to each
//! other, and what a layer must be to the one before it, is checked where it is known.

pub mod changes;
mod rows;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use rows::KEYS;

/// A key of a run file.
pub struct Key {
    /// The table that has it, as its header is written; empty at the top of the file.
    pub table: &'static str,
    /// The kinds of that table that have it; all, where there are none.
    pub kinds: &'static [&'static str],
    /// Its name; empty where a kind has no keys.
    pub name: &'static str,
    /// What it is where it is not set.
    pub default: DefaultValue,
    /// What it may be.
    pub range: Range,
    /// What it means.
    pub meaning: &'static str,
}

/// What a key is where it is not set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// It must be set.
    Required,
    /// This, as TOML has it.
    Is(&'static str),
    /// In words: it follows from something else.
    Follows(&'static str),
}

/// What a key may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// What its type takes, or what is checked with other keys.
    Any,
    /// A whole number from the one to the other.
    Whole(u64, u64),
    /// A whole number that is not less.
    AtLeast(u64),
    /// A number from the one to the other.
    Number(f64, f64),
    /// A number above the one, at most the other.
    Above(f64, f64),
    /// A number from the one to below the other.
    Below(f64, f64),
    /// A number above the one and below the other.
    Between(f64, f64),
    /// 0 for none, or a number from the one to the other.
    NoneOr(f64, f64),
}

impl Range {
    /// In words; empty for [`Range::Any`].
    pub fn words(self) -> String {
        match self {
            Range::Any => String::new(),
            Range::Whole(from, to) => format!("a number from {from} to {to}"),
            Range::AtLeast(from) => format!("{from} or more"),
            Range::Number(from, to) => format!("a number from {} to {}", shown(from), shown(to)),
            Range::Above(above, to) if to == f64::INFINITY => format!("a number above {above}"),
            Range::Above(above, to) => format!("a number above {above}, at most {to}"),
            Range::Below(from, below) => format!("a number from {from} to below {below}"),
            Range::Between(above, below) => format!("a number above {above} and below {below}"),
            Range::NoneOr(from, to) => format!("0 for none, or a number from {from} to {to}"),
        }
    }

    /// Whether a number is in it. NaN is in [`Range::Any`] alone.
    fn has(self, number: f64) -> bool {
        match self {
            Range::Any => true,
            Range::Whole(from, to) => (from as f64..=to as f64).contains(&number),
            Range::AtLeast(from) => number >= from as f64,
            Range::Number(from, to) => (from..=to).contains(&number),
            Range::Above(above, to) => number > above && number <= to && number.is_finite(),
            Range::Below(from, below) => (from..below).contains(&number),
            Range::Between(above, below) => number > above && number < below,
            Range::NoneOr(from, to) => number == 0.0 || (from..=to).contains(&number),
        }
    }
}

impl Key {
    /// Whether a table of this header and kind has it.
    fn is_of(&self, table: &str, kind: &str) -> bool {
        self.table == table && (self.kinds.is_empty() || self.kinds.contains(&kind))
    }
}

/// The default of a key, in its type.
///
/// # Panics
/// Where there is no such row, or its default is not of that type: a test asks for every one.
pub(crate) fn default_of<T: DeserializeOwned>(table: &str, kind: &str, name: &str) -> T {
    let key = KEYS.iter().find(|key| key.is_of(table, kind) && key.name == name);
    let value = match key.map(|key| key.default) {
        Some(DefaultValue::Is(text)) => format!("value = {text}")
            .parse()
            .ok()
            .and_then(|mut parsed: Table| parsed.remove("value")),
        _ => None,
    };
    match value.and_then(|value| value.try_into().ok()) {
        Some(default) => default,
        None => panic!("{table} {name} has no default of its type in the table of keys"),
    }
}

/// The largest whole number that a key may be.
///
/// # Panics
/// Where the key is no whole number with a bound.
pub(crate) fn largest(table: &str, name: &str) -> u64 {
    match KEYS.iter().find(|key| key.table == table && key.name == name) {
        Some(Key {
            range: Range::Whole(_, largest),
            ..
        }) => *largest,
        _ => panic!("{table} {name} has no bound in the table of keys"),
    }
}

/// Functions that give the defaults of keys, for serde: `"[training]" "": quorum: f64` makes `quorum()`.
macro_rules! defaults {
    ($table:literal $kind:literal: $($name:ident: $type:ty),* $(,)?) => {
        $(
            pub fn $name() -> $type {
                $crate::keys::default_of($table, $kind, stringify!($name))
            }
        )*
    };
}
pub(crate) use defaults;

/// The first number of a run file, as it is written out in full, that is not in its key's range; as it was written.
pub(crate) fn out_of_range(run: &Table) -> Option<(&'static Key, String)> {
    KEYS.iter().find_map(|key| {
        let table = table_of(run, key.table)?;
        let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
        let number = match table.get(key.name)? {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            _ => return None,
        };
        (key.is_of(key.table, kind) && !key.range.has(number)).then(|| (key, shown(number)))
    })
}

/// The table with this header, if the run has it. The layers are many: each is checked as it is fitted.
fn table_of<'a>(run: &'a Table, header: &str) -> Option<&'a Table> {
    let mut names = header
        .trim_matches(['[', ']'])
        .split('.')
        .filter(|name| !name.is_empty());
    names.try_fold(run, |table, name| table.get(name)?.as_table())
}

/// A number as it is likely to have been written.
fn shown(number: f64) -> String {
    if number != 0.0 && number.is_finite() && !(1e-6..1e16).contains(&number.abs()) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests;
