//! The tensors of a model's parameters, and the numbers that a run starts from: a seed's, with the same bits on every
//! machine.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::ops::Range;

/// The most parameters of a model. One vector is then 256 MiB, and a tab with a single ML module needs nine of them
/// and what is not durable yet: no more fit into the 4 GiB that it can address.
pub const MAX_PARAMETERS: usize = 1 << 26;

/// One tensor of a model's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As `torch.nn.Sequential` of the same layers names it: the layer's place counted from 0, and its own name.
    pub name: String,
    /// As PyTorch has it: (outputs, inputs), (filters, channels, height, width) or (tokens, width) for a weight, one
    /// size for a bias.
    pub shape: Vec<usize>,
    /// Where it lies in the vector, row-major.
    pub range: Range<usize>,
    /// What a run starts from.
    pub(crate) initial: Initial,
}

/// One tensor of a layer's parameters.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) initial: Initial,
}

impl Tensor {
    /// A weight and a bias as PyTorch's layers have them. shape: that of the weight, outputs first.
    pub(crate) fn weight_and_bias(shape: Vec<usize>) -> Vec<Tensor> {
        let initial = Initial::Uniform {
            fan_in: shape[1..].iter().product(),
        };
        let bias = Tensor {
            name: "bias".to_owned(),
            shape: vec![shape[0]],
            initial,
        };
        let weight = Tensor {
            name: "weight".to_owned(),
            shape,
            initial,
        };
        vec![weight, bias]
    }

    /// A weight that begins at 1 and a bias that begins at 0, as PyTorch's normalisations have them.
    pub(crate) fn scale_and_shift(size: usize) -> Vec<Tensor> {
        let tensor = |name: &str, initial| Tensor {
            name: name.to_owned(),
            shape: vec![size],
            initial,
        };
        vec![tensor("weight", Initial::Ones), tensor("bias", Initial::Zeros)]
    }
}

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
/// Uniform numbers between ±1/√fan_in are what `torch.nn.Linear` and `torch.nn.Conv2d` start from (Kaiming-uniform with
/// a = √5, for weight and bias alike). He's √6/√fan_in would suit rectifiers at least as well, but a run can then not
/// be laid beside PyTorch's of the same description, which is what our figures are compared with.
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
pub(crate) fn fill_all(seed: u64, tensors: &[Parameter], vector: &mut [f32]) {
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
