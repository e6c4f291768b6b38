//! The digits that are embedded in the program: see `data/README.md` for where they come from.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::random::{Generator, Purpose};

use super::{DatasetError, HELD_OUT_SEED, LabelledSamples};

const DIGITS: &[u8] = include_bytes!("../../data/digits.csv.gz");
const SIDE: usize = 8;
const CLASSES: u32 = 10;
/// A pixel counts how many of 4×4 finer ones are set.
const LARGEST_PIXEL: u8 = 16;
/// Of all pixels: inputs with mean 0 and standard deviation 1 train in fewer samples than those from 0 to 1.
const PIXEL_MEAN: f32 = 4.88;
const PIXEL_STD: f32 = 6.02;
/// Of this many rows one is held out.
const HELD_OUT_EVERY: usize = 5;

/// The digits: format, those to train on, those held out.
pub(super) fn load() -> Result<(SampleFormat, LabelledSamples, LabelledSamples), DatasetError> {
    let mut text = String::new();
    MultiGzDecoder::new(DIGITS)
        .read_to_string(&mut text)
        .map_err(|_| DatasetError::Embedded { line: 1 })?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate() {
        rows.push(parse(line).ok_or(DatasetError::Embedded { line: index + 1 })?);
    }
    Generator::of_run(HELD_OUT_SEED, Purpose::HeldOut, 0).shuffle(&mut rows);
    let mut train = LabelledSamples {
        inputs: Vec::new(),
        labels: Vec::new(),
    };
    let mut test = LabelledSamples {
        inputs: Vec::new(),
        labels: Vec::new(),
    };
    for (index, (pixels, label)) in rows.into_iter().enumerate() {
        let set = if index % HELD_OUT_EVERY == 0 {
            &mut test
        } else {
            &mut train
        };
        set.inputs.extend(pixels);
        set.labels.push(label);
    }
    let format = SampleFormat {
        shape: vec![1, SIDE, SIDE],
        content: ContentFormat::Bytes {
            scale: 1.0 / PIXEL_STD,
            shift: -PIXEL_MEAN / PIXEL_STD,
            classes: CLASSES,
        },
    };
    Ok((format, train, test))
}

/// A line: 64 pixels and the digit, with commas between. `None` if it isn't that.
fn parse(line: &str) -> Option<(Vec<u8>, u8)> {
    let mut pixels: Vec<u8> = line
        .split(',')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    let label = pixels.pop()?;
    let is_digit =
        pixels.len() == SIDE * SIDE && pixels.iter().all(|&pixel| pixel <= LARGEST_PIXEL) && u32::from(label) < CLASSES;
    is_digit.then_some((pixels, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_digit_is_refused() {
        let line =
            |pixel: &str, pixels: usize, label: &str| parse(&format!("{}{label}", format!("{pixel},").repeat(pixels)));
        assert_eq!(line("16", 64, "9"), Some((vec![16; 64], 9)));
        for no_digit in [
            line("17", 64, "9"),
            line("16", 64, "10"),
            line("16", 63, "9"),
            line("x", 64, "9"),
            parse(""),
        ] {
            assert_eq!(no_digit, None);
        }
    }
}
