//! Heights and widths: of kernels, strides, paddings and windows.

use serde::de::{Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A height and a width. In a run file one integer means a square, a pair means `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl From<usize> for Extent {
    fn from(side: usize) -> Self {
        Extent {
            height: side,
            width: side,
        }
    }
}

impl From<[usize; 2]> for Extent {
    fn from([height, width]: [usize; 2]) -> Self {
        Extent { height, width }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.height, self.width)
    }
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.height == self.width {
            self.height.serialize(serializer)
        } else {
            [self.height, self.width].serialize(serializer)
        }
    }
}

/// A whole number as a run file has it: an error says so instead of naming a type of Rust's.
struct Whole(usize);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer;

        impl Visitor<'_> for Integer {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, 0 or more")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Whole, E> {
                let value = usize::try_from(value).map_err(|_| E::custom(format!("{value} is too large")))?;
                Ok(Whole(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Whole, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(Integer)
    }
}

/// For keys that are a whole number.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(value)| value)
}

/// For keys that are a whole number and may be left out.
pub(crate) fn whole_if_set<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    whole(deserializer).map(Some)
}

/// For keys that are a list of whole numbers.
pub(crate) fn wholes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    let wholes = Vec::<Whole>::deserialize(deserializer)?;
    Ok(wholes.into_iter().map(|Whole(value)| value).collect())
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `#[serde(untagged)]`: its error would not say what was expected.
        struct IntegerOrPair;

        impl<'de> Visitor<'de> for IntegerOrPair {
            type Value = Extent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, not negative, or a pair of them, [height, width]")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Extent, E> {
                let side = usize::try_from(value).map_err(|_| E::custom(format!("{value} is too large")))?;
                Ok(side.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Extent, E> {
                match u64::try_from(value) {
                    Ok(value) => self.visit_u64(value),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Extent, A::Error> {
                let Whole(height) = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let Whole(width) = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
                if pair.next_element::<Whole>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                Ok(Extent { height, width })
            }
        }

        deserializer.deserialize_any(IntegerOrPair)
    }
}
