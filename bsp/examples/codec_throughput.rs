//! Measures how fast payloads are encoded, with what the encoding loses kept, decoded and checked.
//!
//! `cargo run -p bsp --release --example codec_throughput`

use std::hint::black_box;
use std::time::Instant;

use bsp::protocol::codec::Codec;

const VALUES: usize = 1_000_000;
const TIMES: u32 = 200;

fn main() {
    let values: Vec<f32> = (0..VALUES as u32).map(gradient_like).collect();
    println!("million values per second, of {VALUES}:");
    println!("codec     bytes/value  encode  copy and encode_with_feedback  decode_into (+= value · scale)  check");
    for codec in Codec::ALL {
        let mut payload = vec![0; codec.encoded_bytes(VALUES)];
        let mut scratch = values.clone();
        let mut error = vec![0.0; VALUES];
        let mut sum = vec![0.0; VALUES];
        let encode = fastest(|| codec.encode(black_box(&values), &mut payload));
        let feedback = fastest(|| {
            scratch.copy_from_slice(&values);
            codec.encode_with_feedback(black_box(&mut scratch), &mut error, &mut payload);
        });
        let decode = fastest(|| codec.decode_into(black_box(&payload), &mut sum, |sum, value| *sum += value * 0.125));
        let check = fastest(|| assert_eq!(codec.check(black_box(&payload), VALUES), Ok(())));
        let bytes = payload.len() as f64 / VALUES as f64;
        let name = format!("{codec:?}");
        println!("{name:8}  {bytes:11.3}  {encode:6.0}  {feedback:29.0}  {decode:30.0}  {check:5.0}");
    }
}

/// Many small values and few large ones, of both signs: a sum of twelve hash digits, cubed.
fn gradient_like(index: u32) -> f32 {
    let mut state = u64::from(index);
    let mut sum = -6.0;
    for _ in 0..12 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        sum += (state >> 40) as f32 / (1 << 24) as f32;
    }
    sum * sum * sum
}

/// Million values per second in the fastest of many calls: what the work costs when nothing else disturbs it.
fn fastest(mut call: impl FnMut()) -> f64 {
    let time_s = |_| {
        let begin = Instant::now();
        call();
        begin.elapsed().as_secs_f64()
    };
    VALUES as f64 / 1e6 / (0..TIMES).map(time_s).fold(f64::INFINITY, f64::min)
}
