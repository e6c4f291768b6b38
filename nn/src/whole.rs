//! Whole numbers as a run file has them: an error says so instead of naming a type of Rust's.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A whole number, 0 or more.
pub(crate) struct Whole(u64);

impl Whole {
    /// As the type that a key has.
    pub(crate) fn into_key<T: TryFrom<u64>, E: Error>(self) -> Result<T, E> {
        T::try_from(self.0).map_err(|_| E::custom(format_args!("{} is too large", self.0)))
    }

    /// What a visitor makes of a number with a sign; `visitor` says what it expects.
    pub(crate) fn from_signed<E: Error>(value: i64, visitor: &dyn serde::de::Expected) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), visitor))
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer;

        impl Visitor<'_> for Integer {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                Ok(Whole(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                Whole::from_signed(value, &self).map(Whole)
            }
        }

        deserializer.deserialize_any(Integer)
    }
}

/// For keys that are a whole number.
pub(crate) fn whole<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Whole::deserialize(deserializer)?.into_key()
}

/// For keys that are a whole number and may be left out.
pub(crate) fn whole_if_set<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    whole(deserializer).map(Some)
}

/// For keys that are a list of whole numbers.
pub(crate) fn wholes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    let wholes = Vec::<Whole>::deserialize(deserializer)?;
    wholes.into_iter().map(Whole::into_key).collect()
}
