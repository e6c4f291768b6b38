use super::normalization::{backward, normalize};
use super::window::image;
use super::{Keys, Memory, Needs, Passed, Passes, Sizes, Tensor};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{dot, sum, sum_in_blocks};
use crate::kernel::tensor::{flat, rows, take, take_mut};
use crate::whole::whole;
use ndarray::{ArrayView4, ArrayViewMut1, ArrayViewMut2, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};

/// Normalises each sample's channels in groups, like `torch.nn.GroupNorm` (Wu and He, arXiv 1803.08494): Y = W·N + b,
/// where N has mean 0 and variance 1 in each group, and each channel has its weight and bias.
///
/// X, Y: (batch, channels, height, width), W, b: (channels).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// How many groups the channels are divided into.
    #[serde(deserialize_with = "whole")]
    pub groups: usize,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct GroupNormLayer {
    groups: usize,
    /// (channels, height, width)
    shape: [usize; 3],
}

impl Keys for GroupNorm {
    type Layer = GroupNormLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<GroupNormLayer, String> {
        let shape = image(incoming, from)?;
        let (groups, channels) = (self.groups, shape[0]);
        if groups == 0 {
            return Err("has groups = 0; set groups to 1 or more".into());
        }
        if !channels.is_multiple_of(groups) {
            return Err(format!(
                "has groups = {groups}, but {from} gives {channels} channels; set groups to a divisor of {channels}"
            ));
        }
        Ok(GroupNormLayer { groups, shape })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.groups);
    }
}

impl Sizes for GroupNormLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.to_vec()
    }

    fn tensors(&self) -> Vec<Tensor> {
        Tensor::scale_and_shift(self.shape[0])
    }

    /// What is normalised, and each group's scale.
    fn needs(&self) -> Needs {
        Needs {
            numbers: self.elements().saturating_add(self.groups),
            ..Needs::default()
        }
    }
}

impl GroupNormLayer {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    fn positions(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// How many numbers are normalised together.
    fn group(&self) -> usize {
        self.elements() / self.groups
    }

    fn kept<'a, S>(&self, mut numbers: &'a mut [S], groups: usize) -> Kept<'a, S> {
        Kept {
            normalized: take_mut(&mut numbers, (groups, self.group())),
            scales: take_mut(&mut numbers, groups),
        }
    }
}

/// What the forward pass keeps.
struct Kept<'a, S> {
    /// A row for each group of each sample.
    normalized: ArrayViewMut2<'a, S>,
    scales: ArrayViewMut1<'a, S>,
}

impl<S: Scalar> Passes<S> for GroupNormLayer {
    fn forward(
        &self,
        mut parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let channels = self.shape[0];
        let (weight, bias) = (take(&mut parameters, channels), take(&mut parameters, channels));
        let x = rows(input, self.group());
        let Kept { mut normalized, scales } = self.kept(memory.numbers, x.nrows());
        Zip::from(x.rows())
            .and(normalized.rows_mut())
            .and(scales)
            .for_each(|x, normalized, scale| *scale = normalize(x, normalized));
        let normalized = rows(normalized, self.positions());
        let mut y = rows(output, self.positions());
        let planes = y.rows_mut().into_iter().zip(normalized.rows());
        for ((y, normalized), (weight, bias)) in planes.zip(weight.iter().zip(bias).cycle()) {
            Zip::from(y).and(normalized).for_each(|y, n| *y = *n * *weight + *bias);
        }
    }

    /// dW = Σ over samples and positions of dY·N, db = Σ dY, dN = W·dY.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let (channels, positions) = (self.shape[0], self.positions());
        let dy = rows(passed.output_gradient, positions);
        let Kept { normalized, scales } = self.kept(memory.numbers, dy.len() / self.group());
        let (dw, db) = parameter_gradient.split_at_mut(channels);
        let planes = rows(normalized.view(), positions);
        sum_in_blocks(dy.nrows() / channels, [dw, db], &|sample, columns, [dw, db]| {
            for (channel, (dw, db)) in columns.zip(dw.iter_mut().zip(&mut **db)) {
                let plane = sample * channels + channel;
                let (dy, normalized) = (flat(dy.row(plane)), flat(planes.row(plane)));
                *dw += dot(dy, normalized);
                *db += sum(dy);
            }
        });
        let Some(input_gradient) = input_gradient else { return };
        let mut gradient = rows(input_gradient, positions);
        let planes = gradient.rows_mut().into_iter().zip(dy.rows());
        for ((dn, dy), weight) in planes.zip(passed.parameters[..channels].iter().cycle()) {
            Zip::from(dn).and(dy).for_each(|dn, dy| *dn = *dy * *weight);
        }
        Zip::from(normalized.rows())
            .and(scales.view())
            .and(rows(gradient, self.group()).rows_mut())
            .for_each(|normalized, scale, gradient| backward(normalized, *scale, gradient));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerSpec;
    use crate::layer::gradient_check::{check, check_many_rows, fit, forward};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (groups, shape) in [(1, [3, 2, 5]), (2, [4, 3, 3]), (3, [3, 1, 7]), (2, [2, 1, 1])] {
            check(&fit(GroupNorm { groups }, &shape), shape.iter().product(), 3);
        }
    }

    #[test]
    fn a_group_has_mean_0_and_variance_1() {
        let input: Vec<f64> = (0..16).map(|index| f64::from(index * index)).collect();
        let layer = fit(GroupNorm { groups: 2 }, &[4, 2, 2]);
        let output = forward(&layer, &[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], &input, 1);
        for group in output.chunks_exact(8) {
            assert!(sum(group).abs() < 1e-12 && (dot(group, group) / 8.0 - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let misfit = |groups, incoming: &[usize]| {
            let spec = LayerSpec::from(GroupNorm { groups });
            crate::layer::Layer::new(&spec, incoming, "conv2d").unwrap_err()
        };
        assert_eq!(
            misfit(3, &[4, 2, 2]),
            "has groups = 3, but conv2d gives 4 channels; set groups to a divisor of 4"
        );
        assert!(misfit(0, &[4, 2, 2]).contains("set groups to 1"));
        assert!(misfit(2, &[4]).contains("expects an image"));
    }

    #[test]
    fn the_gradient_of_its_bias_is_exact_over_many_samples() {
        check_many_rows(&fit(GroupNorm { groups: 1 }, &[3, 1, 1]), 262_144);
    }
}
