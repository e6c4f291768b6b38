//! The key `on_divergence`: what a run does that diverges.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a run does that diverges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OnDivergence {
    /// It stops: its volunteers rest, until the operator changes something.
    Stop,
    /// It goes back to a good checkpoint, with a lower learning rate.
    GoBack(GoBack),
}

/// How a run goes back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoBack {
    /// The learning rate is multiplied by this, each time.
    pub factor: f64,
    /// This often at most; then it stops.
    pub at_most: u32,
}

/// The word for [`OnDivergence::Stop`].
const STOP: &str = "stop";

impl Serialize for OnDivergence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            OnDivergence::Stop => serializer.serialize_str(STOP),
            OnDivergence::GoBack(go_back) => go_back.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OnDivergence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OnDivergence, D::Error> {
        // Not `#[serde(untagged)]`: its error would not say what was expected.
        struct StopOrGoBack;

        impl<'de> Visitor<'de> for StopOrGoBack {
            type Value = OnDivergence;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"stop\", or a table such as { factor = 0.5, at_most = 3 }")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<OnDivergence, E> {
                match word {
                    STOP => Ok(OnDivergence::Stop),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<OnDivergence, M::Error> {
                let go_back = GoBack::deserialize(MapAccessDeserializer::new(map))?;
                if !(go_back.factor > 0.0 && go_back.factor < 1.0) {
                    let factor = go_back.factor;
                    return Err(M::Error::custom(format!(
                        "factor = {factor} must be a number above 0 and below 1"
                    )));
                }
                if !(1..=100).contains(&go_back.at_most) {
                    let at_most = go_back.at_most;
                    return Err(M::Error::custom(format!(
                        "at_most = {at_most} must be a number from 1 to 100"
                    )));
                }
                Ok(OnDivergence::GoBack(go_back))
            }
        }

        deserializer.deserialize_any(StopOrGoBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<OnDivergence, String> {
        #[derive(Deserialize)]
        struct Table {
            key: OnDivergence,
        }
        toml::from_str::<Table>(text)
            .map(|table| table.key)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn it_is_a_word_or_a_table_and_anything_else_says_what_it_may_be() {
        assert_eq!(read(r#"key = "stop""#), Ok(OnDivergence::Stop));
        let go_back = GoBack {
            factor: 0.5,
            at_most: 3,
        };
        assert_eq!(
            read("key = { factor = 0.5, at_most = 3 }"),
            Ok(OnDivergence::GoBack(go_back))
        );
        for (text, words) in [
            (r#"key = "halt""#, "factor = 0.5, at_most = 3"),
            ("key = 3", "\"stop\", or a table"),
            ("key = { factor = 2.0, at_most = 3 }", "above 0 and below 1"),
            ("key = { factor = 0.5, at_most = 0 }", "from 1 to 100"),
            ("key = { factor = 0.5 }", "at_most"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
