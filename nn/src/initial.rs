//! The parameters that a run starts from: a seed's, with the same bits on every machine.

use crate::model::Parameter;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Tells these random numbers from all others that a run draws from its seed.
const PURPOSE: &[u8; 24] = b"superstep parameters 001";

/// 0.02 · √3: uniform numbers up to it have GPT-2's standard deviation, 0.02.
const EMBEDDING_BOUND: f32 = 0.034_641_016;

/// What a tensor starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initial {
    /// Uniform numbers between ±1/√fan_in, where one output is a sum over fan_in inputs.
    Uniform {
        /// Not zero.
        fan_in: usize,
    },
    /// Uniform numbers between ±[`EMBEDDING_BOUND`].
    Embedding,
    /// Nought.
    Zeros,
    /// One.
    Ones,
}

/// Fills one tensor.
///
/// Uniform numbers between ±1/√fan_in are what `torch.nn.Linear` and `torch.nn.Conv2d` start from (Kaiming-uniform with a = √5, for weight and bias
/// alike). He's √6/√fan_in would suit rectifiers at least as well, but a run can then not be laid beside PyTorch's of
/// the same description, which is what our figures are compared with.
///
/// The tensor's place in the model is the generator's stream, so that each has numbers of its own. A number is an odd
/// 25-bit integer over 2²⁴, which an `f32` holds exactly, times the bound: one rounding, and never zero.
pub(crate) fn fill(seed: u64, place: usize, initial: Initial, tensor: &mut [f32]) {
    let bound = match initial {
        Initial::Uniform { fan_in } => 1.0 / (fan_in as f32).sqrt(),
        Initial::Embedding => EMBEDDING_BOUND,
        Initial::Zeros => return tensor.fill(0.0),
        Initial::Ones => return tensor.fill(1.0),
    };
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..].copy_from_slice(PURPOSE);
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(place as u64);
    for value in tensor {
        let odd = 2 * (generator.next_u32() >> 8) as i32 - ((1 << 24) - 1);
        *value = odd as f32 / (1 << 24) as f32 * bound;
    }
}

/// Fills a whole model's vector.
pub(crate) fn parameters(seed: u64, tensors: &[Parameter], vector: &mut [f32]) {
    for (place, tensor) in tensors.iter().enumerate() {
        if let Some(values) = vector.get_mut(tensor.range.clone()) {
            fill(seed, place, tensor.initial, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_interval_evenly() {
        let mut tensor = vec![0.0; 100_000];
        fill(5, 0, Initial::Uniform { fan_in: 100 }, &mut tensor);
        let mean = tensor.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e5;
        let square = tensor.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 1e5;
        assert!(
            mean.abs() < 1e-3 && (square - 0.01 / 3.0).abs() < 5e-5,
            "{mean} {square}"
        );
        assert!(tensor.iter().all(|x| x.abs() < 0.1 && *x != 0.0));
    }

    #[test]
    fn embeddings_have_gpt_2s_standard_deviation() {
        let mut tensor = vec![0.0; 100_000];
        fill(5, 0, Initial::Embedding, &mut tensor);
        let square = tensor.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 1e5;
        assert!((square.sqrt() - 0.02).abs() < 1e-4, "{square}");
        assert!(tensor.iter().all(|x| x.abs() < EMBEDDING_BOUND && *x != 0.0));
    }

    #[test]
    fn tensors_and_seeds_have_numbers_of_their_own() {
        let numbers = |seed, place| {
            let mut tensor = vec![0.0; 8];
            fill(seed, place, Initial::Uniform { fan_in: 1 }, &mut tensor);
            tensor
        };
        assert_eq!(numbers(1, 0), numbers(1, 0));
        assert_ne!(numbers(1, 0), numbers(1, 1));
        assert_ne!(numbers(1, 0), numbers(2, 0));
    }
}
