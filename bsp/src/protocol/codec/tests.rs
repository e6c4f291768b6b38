//! The promises of an encoding.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn encoded(codec: Codec, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xaa; codec.encoded_bytes(values.len())];
    codec.encode(values, &mut bytes);
    bytes
}

/// The values that a receiver decodes.
fn decoded(codec: Codec, bytes: Vec<u8>, count: usize) -> Vec<f32> {
    let encoded = Encoded::new(codec, bytes.into(), count).expect("a payload of ours");
    let mut values = vec![f32::NAN; count];
    encoded.decode_into(&mut values, |slot, value| *slot = value);
    values
}

fn round_trip(codec: Codec, values: &[f32]) -> Vec<f32> {
    decoded(codec, encoded(codec, values), values.len())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Any finite value, the subnormal ones and zeros included.
fn any_value() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(|bits| {
        let value = f32::from_bits(bits);
        // Of the infinite ones and those that are not a number, the exponent's last bit goes.
        if value.is_finite() {
            value
        } else {
            f32::from_bits(bits & !(1 << 23))
        }
    })
}

/// Values as gradients have them, of both signs and many sizes, and some zeros.
fn gradient_value() -> impl Strategy<Value = f32> {
    (-1.0f32..1.0, 0..8).prop_map(|(value, size)| if size == 7 { 0.0 } else { value * 0.1f32.powi(size) })
}

/// Numbers of values on both sides of each block's bounds.
fn values(value: impl Strategy<Value = f32>) -> impl Strategy<Value = Vec<f32>> {
    vec(value, 0..700)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

#[test]
fn golden_bytes_of_f32() {
    assert_eq!(encoded(Codec::F32, &[1.0, -0.0]), [0, 0, 0x80, 0x3f, 0, 0, 0, 0x80]);
}

#[test]
fn golden_bytes_of_f16() {
    // The largest is 1 = 2^14 · 2^-14: the scale is 2^-14, whose exponent field is 127 − 14.
    // As halves: 2^14 is 0x7400, −2^13 is 0xf000, 2^14 / 3 is 1.0101010101|01… · 2^12, zero is zero.
    assert_eq!(
        encoded(Codec::F16, &[1.0, -0.5, 1.0 / 3.0, 0.0]),
        [113, 0x00, 0x74, 0x00, 0xf0, 0x55, 0x6d, 0, 0]
    );
    let mut two_blocks = vec![0.0; f16::BLOCK];
    two_blocks.push(-65536.0);
    let bytes = encoded(Codec::F16, &two_blocks);
    let (first, second) = bytes.split_at(1 + 2 * f16::BLOCK);
    assert_eq!((first[0], &first[1..]), (1, &[0u8; 2 * f16::BLOCK][..]));
    assert_eq!(second, [129, 0x00, 0xf4]);
}

#[test]
fn golden_bytes_of_int8() {
    // The scale is 2; 3 / 2 and 5 / 2 lie between two whole numbers and go to the even one.
    assert_eq!(
        encoded(Codec::Int8, &[254.0, -254.0, 3.0, 5.0, -1.5, 0.0]),
        [0, 0, 0, 0x40, 127, 129, 2, 2, 255, 0]
    );
    let mut two_blocks = vec![0.0; int8::BLOCK];
    two_blocks.push(-127.0);
    let bytes = encoded(Codec::Int8, &two_blocks);
    let (first, second) = bytes.split_at(4 + int8::BLOCK);
    assert_eq!(first, [0; 4 + int8::BLOCK], "a block of zeros has the scale 0");
    assert_eq!(second, [0, 0, 0x80, 0x3f, 129]);
}

#[test]
fn golden_bytes_of_top_k() {
    let mut values = [0.5; 33];
    values[2] = -1.0;
    // Of those that are as large the first.
    assert_eq!(
        encoded(Codec::TopK, &values),
        [0, 0, 0, 0, 0, 0, 0, 0x3f, 2, 0, 0, 0, 0, 0, 0x80, 0xbf]
    );
    assert_eq!(encoded(Codec::TopK, &[0.0]), [0; 8]);
}

#[test]
fn nothing_is_encoded_as_nothing() {
    for codec in Codec::ALL {
        assert_eq!(codec.encoded_bytes(0), 0);
        assert_eq!(round_trip(codec, &[]), []);
        codec.encode_with_feedback(&mut [], &mut [], &mut []);
    }
}

#[test]
fn a_codec_travels_as_the_number_that_it_always_had() {
    for (number, codec) in Codec::ALL.into_iter().enumerate() {
        assert_eq!(postcard::to_allocvec(&codec), Ok(vec![number as u8]));
    }
}

#[test]
fn every_half_means_what_ieee_754_says() {
    for half in 0..=u16::MAX {
        let (exponent, mantissa) = (i32::from(half >> 10 & 31), f64::from(half & 0x3ff));
        let magnitude = match exponent {
            31 => continue,
            0 => mantissa * 2f64.powi(-24),
            _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
        };
        let value = if half >> 15 == 1 { -magnitude } else { magnitude };
        let ours = f16::to_f32(half);
        assert_eq!(f64::from(ours).to_bits(), value.to_bits(), "half {half:#06x}");
        if magnitude < 32768.0 {
            assert_eq!(f16::to_half(ours), half);
        }
    }
}

#[test]
fn every_value_goes_to_the_nearest_half_and_between_two_to_the_even_one() {
    const LARGEST: u16 = 0x77ff;
    for half in 0..LARGEST {
        let middle = (f16::to_f32(half) + f16::to_f32(half + 1)) / 2.0;
        let even = half + (half & 1);
        // Rounding is monotone: what holds beside the middle holds up to the next half.
        for (sign, sign_bit) in [(1.0, 0), (-1.0, 0x8000)] {
            assert_eq!(f16::to_half(sign * middle.next_down()), half | sign_bit);
            assert_eq!(f16::to_half(sign * middle), even | sign_bit);
            assert_eq!(f16::to_half(sign * middle.next_up()), (half + 1) | sign_bit);
        }
    }
    assert_eq!(f16::to_half(32768f32.next_down()), LARGEST);
}

#[test]
fn whatever_the_largest_value_of_a_block_it_comes_back_finite_and_nearly_itself() {
    for codec in [Codec::F16, Codec::Int8] {
        for exponent in 0..255 {
            for mantissa in [0, 1, 0x2a_aaaa, 0x7f_efff, 0x7f_f000, 0x7f_f001, 0x7f_ffff] {
                let value = f32::from_bits(exponent << 23 | mantissa);
                let back = round_trip(codec, &[value, -value]);
                let tolerance = match codec {
                    // Half of the last of 11 digits.
                    Codec::F16 => value / 2048.0,
                    _ if value < 127.0 * f32::MIN_POSITIVE => f32::MIN_POSITIVE / 2.0,
                    _ => value / 4e6,
                };
                assert!(
                    (back[0] - value).abs() <= tolerance && back[1] == -back[0],
                    "{value:e} in {codec:?} comes back as {back:?}"
                );
            }
        }
    }
}

#[test]
fn huge_and_tiny_values_side_by_side_harm_only_the_tiny_ones_of_their_block() {
    let mut values = vec![1e-40; 600];
    values[0] = 1e30;
    values[599] = -f32::MAX;
    for codec in [Codec::F16, Codec::Int8] {
        let back = round_trip(codec, &values);
        assert!((back[0] - 1e30).abs() < 1e27, "{codec:?}: {}", back[0]);
        assert!((back[599] / f32::MAX + 1.0).abs() < 1e-3, "{codec:?}: {}", back[599]);
        assert_eq!(back[1], 0.0);
    }
    let back = round_trip(Codec::F16, &values);
    assert!(
        (back[300] / 1e-40 - 1.0).abs() < 1e-3,
        "a block of subnormal numbers keeps them: {}",
        back[300]
    );
    let back = round_trip(Codec::TopK, &values);
    assert_eq!((back[0], back[1], back[599]), (1e30, 1e-40, -f32::MAX));
}

#[test]
fn a_payload_of_the_wrong_length_is_refused() {
    for codec in Codec::ALL {
        let mut bytes = encoded(codec, &[1.0; 300]);
        bytes.push(0);
        let expected = bytes.len() - 1;
        let refused = |got| CodecError::Length {
            got,
            count: 300,
            codec,
            expected,
        };
        assert_eq!(codec.check(&bytes, 300), Err(refused(expected + 1)));
        assert_eq!(codec.check(&bytes[..expected], 300), Ok(()));
        assert_eq!(codec.check(&bytes[..expected - 1], 300), Err(refused(expected - 1)));
    }
}

#[test]
fn a_payload_with_a_scale_index_or_value_that_cannot_be_is_refused_with_its_place() {
    let refusal = |codec: Codec, count: usize, at: usize, by: &[u8]| {
        let mut bytes = encoded(codec, &vec![1.0; count]);
        bytes[at..at + by.len()].copy_from_slice(by);
        codec.check(&bytes, count).map_err(|error| error.to_string())
    };
    let refused = |message: &str| Err(message.to_string());
    assert_eq!(
        refusal(Codec::F32, 9, 32, &f32::NAN.to_le_bytes()),
        refused("value 8 is not finite")
    );
    assert_eq!(
        refusal(Codec::F16, 300, 513, &[255]),
        refused("block 1 has the scale inf; a scale is finite and not negative")
    );
    assert_eq!(
        refusal(Codec::F16, 300, 514 + 2 * 43, &0xfc01u16.to_le_bytes()),
        refused("value 299 is not finite")
    );
    assert_eq!(refusal(Codec::F16, 2, 0, &[254]), refused("value 0 is not finite"));
    assert_eq!(
        refusal(Codec::Int8, 129, 132, &(-1f32).to_le_bytes()),
        refused("block 1 has the scale -1; a scale is finite and not negative")
    );
    assert_eq!(
        refusal(Codec::Int8, 129, 0, &f32::NAN.to_le_bytes()),
        refused("block 0 has the scale NaN; a scale is finite and not negative")
    );
    assert_eq!(
        refusal(Codec::Int8, 129, 132, &f32::MAX.to_le_bytes()),
        refused("value 128 is not finite")
    );
    assert_eq!(
        refusal(Codec::TopK, 33, 8, &0u32.to_le_bytes()),
        refused("entry 1 has the index 0; indices ascend and are below 33")
    );
    assert_eq!(
        refusal(Codec::TopK, 33, 8, &33u32.to_le_bytes()),
        refused("entry 1 has the index 33; indices ascend and are below 33")
    );
    assert_eq!(
        refusal(Codec::TopK, 33, 12, &f32::INFINITY.to_le_bytes()),
        refused("value 1 is not finite")
    );
}

proptest! {
    #[test]
    fn f32_keeps_every_bit(values in values(any_value())) {
        prop_assert_eq!(bits(&round_trip(Codec::F32, &values)), bits(&values));
    }

    #[test]
    fn f16_keeps_eleven_digits_of_values_near_their_blocks_largest(
        values in prop_oneof![values(any_value()), values(gradient_value())],
    ) {
        let back = round_trip(Codec::F16, &values);
        for (values, back) in values.chunks(f16::BLOCK).zip(back.chunks(f16::BLOCK)) {
            // Half of a subnormal half's last digit, 2^-25, in a block whose largest value is scaled to 2^14 or more.
            let floor = f64::from(largest(values)) * 2f64.powi(-39);
            for (value, back) in values.iter().zip(back) {
                let (value, back) = (f64::from(*value), f64::from(*back));
                prop_assert!((value - back).abs() <= (value.abs() / 2048.0).max(floor), "{value:e} became {back:e}");
            }
        }
    }

    #[test]
    fn int8_errs_by_half_a_scale_at_most(values in prop_oneof![values(any_value()), values(gradient_value())]) {
        let back = round_trip(Codec::Int8, &values);
        for (values, back) in values.chunks(int8::BLOCK).zip(back.chunks(int8::BLOCK)) {
            let scale = f64::from((largest(values) / 127.0).max(f32::MIN_POSITIVE));
            // The quotient and the product are rounded once each, up to 127 times as large as half a scale.
            let bound = scale / 2.0 * (1.0 + 4.0 * 127.0 * f64::from(f32::EPSILON));
            for (value, back) in values.iter().zip(back) {
                prop_assert!((f64::from(*value) - f64::from(*back)).abs() <= bound, "{value:e} became {back:e}");
            }
        }
    }

    #[test]
    fn top_k_keeps_the_largest_exactly_and_drops_nothing_larger(
        values in prop_oneof![values(any_value()), values(gradient_value()), values((-3i8..3).prop_map(f32::from))],
    ) {
        let bytes = encoded(Codec::TopK, &values);
        let mut expected: Vec<usize> = (0..values.len()).collect();
        expected.sort_by(|a, b| values[*b].abs().total_cmp(&values[*a].abs()).then(a.cmp(b)));
        expected.truncate(values.len().div_ceil(32));
        expected.sort_unstable();
        let listed = expected.iter().flat_map(|index| {
            let [i, v] = [(*index as u32).to_le_bytes(), values[*index].to_le_bytes()];
            i.into_iter().chain(v)
        });
        prop_assert_eq!(&bytes, &listed.collect::<Vec<_>>());
        let back = decoded(Codec::TopK, bytes, values.len());
        for (index, back) in back.into_iter().enumerate() {
            let is_kept = expected.binary_search(&index).is_ok();
            prop_assert_eq!(back.to_bits(), if is_kept { values[index].to_bits() } else { 0 });
        }
    }

    #[test]
    fn encoding_again_what_was_decoded_loses_nothing_more(
        values in prop_oneof![values(any_value()), values(gradient_value())],
    ) {
        for codec in [Codec::F32, Codec::F16, Codec::TopK] {
            let once = round_trip(codec, &values);
            prop_assert_eq!(encoded(codec, &once), encoded(codec, &values), "in {:?}", codec);
        }
        // The scale may move by its last digit, the whole numbers do not; but small ones may all be 0 and lose their
        // scale.
        let first = encoded(Codec::Int8, &values);
        let again = encoded(Codec::Int8, &round_trip(Codec::Int8, &values));
        for (first, again) in first.chunks(4 + int8::BLOCK).zip(again.chunks(4 + int8::BLOCK)) {
            prop_assert_eq!(&first[4..], &again[4..]);
            let scale = |block: &[u8]| u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            let is_zero = first[4..].iter().all(|byte| *byte == 0);
            prop_assert!(scale(first).abs_diff(scale(again)) <= 1 || is_zero && scale(again) == 0);
        }
    }

    /// What stays in the error is exact, by Sterbenz' lemma: a decoded value is 0 or within a factor of two of what was
    /// encoded. So a round loses no more than the rounding of one sum, 2^-24 of it.
    #[test]
    fn with_feedback_nothing_is_lost_and_the_error_stays_bounded(
        rounds in (1usize..600).prop_flat_map(|count| vec(vec(gradient_value(), count), 1..24)),
    ) {
        let count = rounds[0].len();
        for codec in Codec::ALL {
            let mut error = vec![0.0; count];
            let mut bytes = vec![0; codec.encoded_bytes(count)];
            let mut given = vec![0.0; count];
            let mut taken = vec![0.0; count];
            let mut tolerance = vec![0.0; count];
            let mut greatest_norm = 0f64;
            for values in &rounds {
                let mut sums = values.clone();
                codec.encode_with_feedback(&mut sums, &mut error, &mut bytes);
                for (slot, value) in decoded(codec, bytes.clone(), count).into_iter().enumerate() {
                    given[slot] += f64::from(values[slot]);
                    taken[slot] += f64::from(value);
                    tolerance[slot] += f64::from(sums[slot].abs()) * 2f64.powi(-24);
                }
                greatest_norm = greatest_norm.max(norm(values));
                match codec {
                    Codec::F32 => prop_assert!(error.iter().all(|error| error.to_bits() == 0)),
                    // |e| ≤ (1 + |e|) · the part of a block's largest value that one encoding may lose, which
                    // is 1 / 2048 and 1 / 254.
                    Codec::F16 => prop_assert!(largest(&error) <= 1.0 / 2046.0),
                    Codec::Int8 => prop_assert!(largest(&error) <= 1.0 / 252.9),
                    // ‖e‖ ≤ r · (‖e‖ + ‖values‖), where r² = 1 − 1/32 is the most that may stay behind of a square
                    // norm.
                    Codec::TopK => {
                        let r = (1.0f64 - 1.0 / 32.0).sqrt();
                        prop_assert!(norm(&error) <= greatest_norm * r / (1.0 - r) * 1.0001);
                    }
                }
            }
            for slot in 0..count {
                let lost = given[slot] - taken[slot] - f64::from(error[slot]);
                prop_assert!(lost.abs() <= tolerance[slot] + 1e-12, "{:?} lost {lost:e} of value {slot}", codec);
            }
        }
    }

    #[test]
    fn with_no_error_yet_feedback_encodes_the_same_bytes(values in values(gradient_value())) {
        for codec in Codec::ALL {
            let mut bytes = vec![0; codec.encoded_bytes(values.len())];
            codec.encode_with_feedback(&mut values.clone(), &mut vec![0.0; values.len()], &mut bytes);
            // −0 + 0 is 0; and no sum of others is −0.
            let values: Vec<f32> = values.iter().map(|value| value + 0.0).collect();
            prop_assert_eq!(bytes, encoded(codec, &values));
        }
    }

    #[test]
    fn any_bytes_decode_to_finite_values_or_are_refused(
        bytes in vec(any::<u8>(), 0..1500),
        count in 0usize..700,
        is_fitting in prop::bool::weighted(0.9),
        has_small_scales in any::<bool>(),
    ) {
        for codec in Codec::ALL {
            let mut bytes = bytes.clone();
            if is_fitting {
                bytes.resize(codec.encoded_bytes(count), 0x11);
            }
            if has_small_scales && codec == Codec::Int8 {
                bytes.chunks_mut(4 + int8::BLOCK).for_each(|block| block[block.len().min(4) - 1] = 0x30);
            }
            if bytes.len() == codec.encoded_bytes(count) {
                codec.decode_into(&bytes, &mut vec![0.0; count], |slot, value| *slot += value);
            }
            if codec.check(&bytes, count).is_ok() {
                prop_assert!(decoded(codec, bytes, count).iter().all(|value| value.is_finite()));
            }
        }
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}
