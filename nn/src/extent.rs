//! Heights and widths: of kernels, strides, paddings and windows.

use crate::whole::{Whole, whole};
use serde::de::{Error, IntoDeserializer, SeqAccess, Visitor};
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
                whole(value.into_deserializer()).map(|side: usize| side.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Extent, E> {
                let value = Whole::from_signed(value, &self)?;
                self.visit_u64(value)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Extent, A::Error> {
                let mut side = |index| match pair.next_element::<Whole>()? {
                    Some(side) => side.into_key(),
                    None => Err(A::Error::invalid_length(index, &self)),
                };
                let (height, width) = (side(0)?, side(1)?);
                if pair.next_element::<Whole>()?.is_some() {
                    return Err(A::Error::invalid_length(3, &self));
                }
                Ok(Extent { height, width })
            }
        }

        deserializer.deserialize_any(IntegerOrPair)
    }
}
