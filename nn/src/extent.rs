//! Heights and widths: of kernels, strides, paddings and windows.

use serde::de::{Error, SeqAccess, Visitor};
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
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(value), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Extent, A::Error> {
                let height = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let width = pair.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
                if pair.next_element::<usize>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                Ok(Extent { height, width })
            }
        }

        deserializer.deserialize_any(IntegerOrPair)
    }
}
