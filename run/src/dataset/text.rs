//! A text, to be continued character by character.

use std::collections::BTreeSet;

use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::data::shard::{MAX_CLASSES, Shard};

use super::{Dataset, DatasetError, Legend, TextSpec, cut, file};

/// A text: its characters become tokens in the order of their code points.
pub(super) fn load(spec: &TextSpec) -> Result<Dataset, DatasetError> {
    let text = file::text(&spec.file)?;
    let characters = characters(&text, spec)?;
    let number = |character| characters.binary_search(&character).unwrap_or_default() as u8;
    let tokens: Vec<u8> = text.chars().map(number).collect();
    let held_out = (tokens.len() as f64 * spec.held_out).round() as usize;
    let (train, held_out) = tokens.split_at(tokens.len().saturating_sub(held_out));
    let count = characters.len() as u32;
    Ok(Dataset {
        format: SampleFormat {
            shape: vec![spec.positions],
            content: ContentFormat::Text { tokens: count },
        },
        shards: windows(spec, train, count, "train on", "lower")?.into(),
        held_out: windows(spec, held_out, count, "evaluate on", "higher")?,
        legend: Some(Legend::Text {
            tokens: characters.into_iter().collect(),
        }),
    })
}

/// The different characters, in order.
fn characters(text: &str, spec: &TextSpec) -> Result<Vec<char>, DatasetError> {
    let mut characters = BTreeSet::new();
    for (line, text) in text.split_inclusive('\n').enumerate() {
        for character in text.chars() {
            characters.insert(character);
            if characters.len() > MAX_CLASSES as usize {
                return Err(DatasetError::TooManyCharacters {
                    path: spec.file.clone(),
                    line: line + 1,
                    character,
                });
            }
        }
    }
    if characters.is_empty() {
        return Err(DatasetError::Empty {
            path: spec.file.clone(),
        });
    }
    if let (Some(&character), 1) = (characters.first(), characters.len()) {
        return Err(DatasetError::OneCharacter {
            path: spec.file.clone(),
            character,
        });
    }
    Ok(characters.into_iter().collect())
}

/// Cuts a part of the text into shards so that each window of it is in one of them.
fn windows(
    spec: &TextSpec,
    tokens: &[u8],
    characters: u32,
    purpose: &'static str,
    hint: &'static str,
) -> Result<Vec<Shard>, DatasetError> {
    let positions = spec.positions;
    if tokens.len() <= positions {
        return Err(DatasetError::ShortText {
            path: spec.file.clone(),
            characters: tokens.len(),
            purpose,
            positions,
            hint,
        });
    }
    let starts: Vec<usize> = (0..tokens.len() - positions).collect();
    cut(&starts, spec.shard_samples, |starts| {
        let (first, count) = (starts.first().copied().unwrap_or_default(), starts.len());
        Shard::text(characters, positions, tokens[first..first + count + positions].to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::DatasetSpec;
    use nn::data::shard::Content;
    use std::io::Write;

    fn load_text(text: &[u8], positions: usize, held_out: f64, shard_samples: usize) -> Result<Dataset, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("text");
        std::fs::File::create(&file).unwrap().write_all(text).unwrap();
        let spec = TextSpec {
            file,
            positions,
            held_out,
            shard_samples,
        };
        let prefix = format!("{}/", directory.path().display());
        Dataset::load(&DatasetSpec::Text(spec), 1).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn tokens(shard: &Shard) -> &[u8] {
        match shard.content() {
            Content::Text { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_window_is_in_one_shard_and_the_end_is_held_out() {
        let dataset = load_text(
            "hätte die Katze Flügel, gäbe es keine Spatzen\n".as_bytes(),
            4,
            0.25,
            10,
        )
        .unwrap();
        let Some(Legend::Text { tokens: characters }) = &dataset.legend else {
            panic!("a text has a legend")
        };
        let characters: Vec<char> = characters.chars().collect();
        assert_eq!(
            dataset.format.content,
            ContentFormat::Text {
                tokens: characters.len() as u32
            }
        );
        let read = |tokens: &[u8]| {
            tokens
                .iter()
                .map(|token| characters[usize::from(*token)])
                .collect::<String>()
        };
        assert_eq!(read(tokens(&dataset.held_out[0])), "ine Spatzen\n");
        let windows: Vec<String> = dataset
            .shards
            .iter()
            .flat_map(|shard| tokens(shard).windows(5).map(read).collect::<Vec<_>>())
            .collect();
        let all: Vec<char> = "hätte die Katze Flügel, gäbe es ke".chars().collect();
        let expected: Vec<String> = all.windows(5).map(|window| window.iter().collect()).collect();
        assert_eq!(windows, expected);
        assert_eq!(dataset.train_samples(), expected.len());
    }

    #[test]
    fn a_text_that_can_not_be_used_is_refused_with_the_place_and_a_hint() {
        assert_eq!(
            load_text(b"abc\xff", 2, 0.1, 10).unwrap_err(),
            "text: offset 3: is not UTF-8; convert it to UTF-8"
        );
        assert_eq!(
            load_text(b"abcdefghij", 4, 0.1, 10).unwrap_err(),
            "text: 1 characters to evaluate on, but a window of 4 and the character after it need 5; set positions \
             lower, or held_out higher"
        );
        assert_eq!(
            load_text(b"", 4, 0.5, 10).unwrap_err(),
            "text: is empty; name another text in [dataset]"
        );
        assert_eq!(
            load_text(b"aaaaaaaaaaaaaaaaaaaa", 4, 0.5, 10).unwrap_err(),
            "text: holds no character but 'a', so there is nothing to learn; name another text in [dataset]"
        );
        let wide: String = (0..300).filter_map(|code| char::from_u32(0x4e00 + code)).collect();
        let error = load_text(format!("ab\n{wide}").as_bytes(), 4, 0.1, 10).unwrap_err();
        assert!(
            error.starts_with("text: line 2: '") && error.ends_with("; replace rare ones"),
            "{error}"
        );
    }
}
