use super::normalization::{backward, normalize};
use super::window::image;
use super::{Keys, Memory, Needs, Passed, Passes, Sizes, Tensor};
use crate::fnv1a::Fnv1a;
use crate::lanes::{dot, sum};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// Normalises each sample's channels in groups, like `torch.nn.GroupNorm` (Wu and He, arXiv 1803.08494): Y = W·N + b, where N has
/// mean 0 and variance 1 in each group, and each channel has its weight and bias.
///
/// X, Y: (batch, channels, height, width), W, b: (channels).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// How many groups the channels are divided into.
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

    fn places(&self) -> usize {
        self.shape[1] * self.shape[2]
    }
}

impl<S: Scalar> Passes<S> for GroupNormLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let group = self.elements() / self.groups;
        let (normalized, scales) = memory.numbers.split_at_mut(input.len());
        let groups = input.chunks_exact(group).zip(normalized.chunks_exact_mut(group));
        for ((x, normalized), scale) in groups.zip(scales) {
            *scale = normalize(x, normalized);
        }
        let (weight, bias) = parameters.split_at(self.shape[0]);
        let planes = output
            .chunks_exact_mut(self.places())
            .zip(normalized.chunks_exact(self.places()));
        for ((y, normalized), (weight, bias)) in planes.zip(weight.iter().zip(bias).cycle()) {
            for (y, n) in y.iter_mut().zip(normalized) {
                *y = *n * *weight + *bias;
            }
        }
    }

    /// dW = Σ over samples and places of dY·N, db = Σ dY, dN = W·dY.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (channels, places) = (self.shape[0], self.places());
        let (normalized, scales) = memory.numbers.split_at(passed.input.len());
        parameter_gradient.fill(S::ZERO);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(channels);
        let planes = passed
            .output_gradient
            .chunks_exact(places)
            .zip(normalized.chunks_exact(places));
        for (plane, (dy, normalized)) in planes.enumerate() {
            weight_gradient[plane % channels] += dot(dy, normalized);
            bias_gradient[plane % channels] += sum(dy);
        }
        let Some(input_gradient) = input_gradient else { return };
        let weight = &passed.parameters[..channels];
        let planes = input_gradient
            .chunks_exact_mut(places)
            .zip(passed.output_gradient.chunks_exact(places));
        for ((dn, dy), weight) in planes.zip(weight.iter().cycle()) {
            for (dn, dy) in dn.iter_mut().zip(dy) {
                *dn = *dy * *weight;
            }
        }
        let group = self.elements() / self.groups;
        let groups = input_gradient
            .chunks_exact_mut(group)
            .zip(normalized.chunks_exact(group));
        for ((gradient, normalized), scale) in groups.zip(scales) {
            backward(normalized, *scale, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::LayerSpec;
    use crate::layer::gradient_check::{check, fit, forward};

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
}
