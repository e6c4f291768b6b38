use super::{Keys, Memory, Needs, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{OnePiece, flat, flat_mut, tensor};
use ndarray::{ArrayView4, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};

/// Sets each number to zero with a probability while training, and lets the others grow as much, like
/// `torch.nn.Dropout` (Srivastava et al., JMLR 15, 2014); of any shape. Which ones depends on the minibatch's key
/// alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// The probability, from 0 to below 1.
    pub share: f64,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct DropoutLayer {
    shape: Vec<usize>,
    /// Random numbers of 32 bits below it drop a number.
    threshold: u32,
    /// What the others are multiplied with.
    scale: f64,
}

impl Keys for Dropout {
    type Layer = DropoutLayer;

    fn fit(&self, incoming: &[usize], _: &str) -> Result<DropoutLayer, String> {
        let share = self.share;
        if !(0.0..1.0).contains(&share) {
            return Err(format!("has share = {share}; set share from 0 to below 1"));
        }
        Ok(DropoutLayer {
            shape: incoming.to_vec(),
            threshold: (share * 2.0_f64.powi(32)) as u32,
            scale: 1.0 / (1.0 - share),
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.bits(self.share);
    }
}

impl Sizes for DropoutLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// Which numbers are left.
    fn needs(&self) -> Needs {
        Needs {
            indices: self.shape.iter().product(),
            ..Needs::default()
        }
    }
}

impl DropoutLayer {
    fn multiply<S: Scalar>(&self, result: ArrayViewMut4<'_, S>, values: ArrayView4<'_, S>, is_left: &[u32]) {
        let scale = S::from_f64(self.scale);
        Zip::from(result.line())
            .and(values.line())
            .and(tensor(is_left, is_left.len()))
            .for_each(|result, value, is_left| *result = if *is_left == 0 { S::ZERO } else { *value * scale });
    }
}

impl<S: Scalar> Passes<S> for DropoutLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, memory: Memory<'_, S>) {
        let Some(random) = memory.random else {
            return flat_mut(output).copy_from_slice(flat(input));
        };
        for is_left in memory.indices.iter_mut() {
            *is_left = u32::from(random.next_u32() >= self.threshold);
        }
        self.multiply(output, input, memory.indices);
    }

    /// dX = dY where a number was left, as much larger; otherwise 0.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        if memory.random.is_none() {
            return flat_mut(input_gradient).copy_from_slice(flat(passed.output_gradient));
        }
        self.multiply(input_gradient, passed.output_gradient, memory.indices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};
    use crate::layer::{Layer, LayerSpec};

    #[test]
    fn its_gradient_is_the_central_differences() {
        check(&fit(Dropout { share: 0.4 }, &[3, 4, 5]), 60, 3);
    }

    #[test]
    fn as_many_numbers_are_dropped_as_it_says_and_the_mean_stays() {
        let input = vec![1.0_f64; 100_000];
        let output = forward(&fit(Dropout { share: 0.25 }, &[100_000]), &[], &input, 1);
        let dropped = output.iter().filter(|x| **x == 0.0).count();
        assert!((24_500..25_500).contains(&dropped), "{dropped}");
        assert!(output.iter().all(|x| *x == 0.0 || *x == 1.0 / 0.75));
    }

    #[test]
    fn a_share_that_is_none_is_refused() {
        for share in [-0.1, 1.0, f64::NAN] {
            let spec = LayerSpec::from(Dropout { share });
            let problem = Layer::new(&spec, &[4], "the input").unwrap_err();
            assert!(problem.ends_with("; set share from 0 to below 1"), "{problem}");
        }
    }
}
