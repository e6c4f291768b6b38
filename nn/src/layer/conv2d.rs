mod input_gradient;

use super::images::Images;
use super::window::{Window, image};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{sum, sum_in_blocks};
use crate::kernel::tensor::{flat, flat_mut, rows, take, take_mut};
use crate::kernel::{Operand, Target, Update, matmul};
use crate::whole::{whole, whole_if_set};
use ndarray::{ArrayView4, ArrayViewMut4, Axis};
use serde::{Deserialize, Serialize};

/// Convolution (cross-correlation, strictly), like `torch.nn.Conv2d`: Yₙ = W·unfold(Xₙ) + b for each sample n.
///
/// X: (batch, channels, height, width), W: (filters, channels, kernel height, kernel width), b: (filters),
/// Y: (batch, filters, out height, out width), unfold(Xₙ): (fan in, positions) with fan in = channels · kernel height ·
/// kernel width and positions = out height · out width.
///
/// With groups, each group of filters sees its own group of channels only, as if the groups were convolutions side by
/// side: W is (filters, channels / groups, kernel height, kernel width). As many groups as channels make it depthwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// How many channels come out.
    #[serde(deserialize_with = "whole")]
    pub filters: usize,
    /// What a filter sees at once.
    pub kernel: Extent,
    /// How far a filter moves from one output to the next.
    #[serde(default = "one")]
    pub stride: Extent,
    /// How many rows and columns of zeros are put around the image, on each side.
    #[serde(default = "zero")]
    pub padding: Extent,
    /// Into how many groups the channels and the filters are divided.
    #[serde(default = "one_group", deserialize_with = "whole")]
    pub groups: usize,
    /// How many channels come in, if the run file wants it checked.
    #[serde(default, deserialize_with = "whole_if_set", skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct Conv2dLayer {
    channels: usize,
    filters: usize,
    groups: usize,
    window: Window,
}

fn one_group() -> usize {
    1
}

fn one() -> Extent {
    1.into()
}

fn zero() -> Extent {
    0.into()
}

impl Conv2d {
    /// With what a run file may leave out.
    pub fn new(filters: usize, kernel: impl Into<Extent>) -> Conv2d {
        Conv2d {
            filters,
            kernel: kernel.into(),
            stride: one(),
            padding: zero(),
            groups: one_group(),
            channels: None,
        }
    }
}

impl Keys for Conv2d {
    type Layer = Conv2dLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<Conv2dLayer, String> {
        let Conv2d {
            filters,
            kernel,
            stride,
            padding,
            groups,
            channels,
        } = *self;
        let [given, height, width] = image(incoming, from)?;
        if let Some(expected) = channels.filter(|expected| *expected != given) {
            return Err(format!(
                "expects {expected} channels, but {from} gives {given}; set channels = {given}"
            ));
        }
        if filters == 0 {
            return Err("has filters = 0; set filters to 1 or more".into());
        }
        if groups == 0 {
            return Err("has groups = 0; set groups to 1 or more".into());
        }
        if !given.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            return Err(format!(
                "has groups = {groups}, but {from} gives {given} channels, and filters = {filters}; set groups to a \
                 divisor of both"
            ));
        }
        let fitted = |padding| {
            let window = Window::new(Extent { height, width }, "kernel", kernel, stride, padding)?;
            let layer = Conv2dLayer {
                channels: given,
                filters,
                groups,
                window,
            };
            layer.check_sizes().map(|()| layer)
        };
        let widest = widest_padding(kernel);
        fitted(padding).map_err(|problem| match fitted(widest) {
            // A kernel beyond it sees zeros only.
            Ok(_) if padding.height > widest.height || padding.width > widest.width => {
                format!("has padding = {padding}, which makes the image too large; set padding to {widest} or less")
            }
            _ => problem,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.filters);
        hash.extents([self.kernel, self.stride, self.padding]);
        hash.word(self.groups);
    }
}

impl Sizes for Conv2dLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.filters, self.window.positions.height, self.window.positions.width]
    }

    fn tensors(&self) -> Vec<Tensor> {
        let size = self.window.size;
        Tensor::weight_and_bias(vec![self.filters, self.channels / self.groups, size.height, size.width])
    }

    fn needs(&self) -> Needs {
        Needs {
            room: self.room().unwrap_or(usize::MAX),
            ..Needs::default()
        }
    }
}

/// The widest padding of which a kernel still sees the image from every place.
fn widest_padding(kernel: Extent) -> Extent {
    let [height, width] = [kernel.height, kernel.width].map(|size| size.saturating_sub(1));
    Extent { height, width }
}

/// How many positions a product takes at once, of as many samples as that are: small images share the packing of the
/// weights, and the sum over the positions is as long as the product's blocks.
const POSITIONS_AT_ONCE: usize = 512;

impl Conv2dLayer {
    /// Whether what its passes work in can be counted and held.
    fn check_sizes(&self) -> Result<(), String> {
        let Conv2dLayer {
            channels,
            filters,
            window,
            ..
        } = self;
        let Window { size, positions, .. } = window;
        let unfolded = count(&[*channels, size.height, size.width, positions.height, positions.width]);
        if unfolded.is_none_or(|unfolded| unfolded > MAX_ELEMENTS) {
            return Err(format!(
                "unfolds a sample to more than {MAX_ELEMENTS} numbers ({channels} channels · kernel {size} · \
                 {positions} positions); make the kernel or the image smaller, or the stride larger",
            ));
        }
        if self.room().is_none_or(|room| room > MAX_ELEMENTS) {
            return Err(format!(
                "works in more than {MAX_ELEMENTS} numbers for a sample ({filters} filters, kernel {size} and padding \
                 {} on {}); make one of them smaller",
                window.padding, window.plane
            ));
        }
        Ok(())
    }

    /// How many numbers of a sample one output is a sum over.
    fn fan_in(&self) -> usize {
        self.channels / self.groups * self.window.size.height * self.window.size.width
    }

    fn positions(&self) -> usize {
        self.window.positions.height * self.window.positions.width
    }

    /// How many samples are in one product.
    fn samples_at_once(&self) -> usize {
        (POSITIONS_AT_ONCE / self.positions()).max(1)
    }

    /// The images that go in, with their padding.
    fn incoming(&self) -> Images {
        let Window { plane, padding, .. } = self.window;
        Images {
            channels: self.channels,
            plane,
            padding,
        }
    }

    /// The numbers that the passes work in, if they can be counted.
    fn room(&self) -> Option<usize> {
        let unfolding = self.incoming().room(self.samples_at_once())?;
        Some(unfolding.max(input_gradient::room(self)?))
    }

    /// W by groups: (groups, filters, channels, kernel height, kernel width), filters and channels being those of a
    /// group.
    fn weight_shape(&self) -> [usize; 5] {
        let Extent { height, width } = self.window.size;
        let [channels, filters] = [self.channels, self.filters].map(|all| all / self.groups);
        [self.groups, filters, channels, height, width]
    }

    /// unfold(Xₙ) of one group, for several samples side by side: (fan in, samples · positions).
    fn unfolded<'a, S>(&self, padded: ArrayView4<'a, S>, group: usize) -> Operand<'a, S> {
        let channels = self.channels / self.groups;
        let window = (self.window.size, self.window.stride, self.window.positions);
        let channels = group * channels..(group + 1) * channels;
        self.incoming().unfolded(padded, channels, window)
    }
}

/// The channels of several images, group by group.
fn by_groups<'a, S>(images: &'a ArrayView4<'_, S>, groups: usize) -> impl Iterator<Item = ArrayView4<'a, S>> {
    let channels = images.dim().1 / groups;
    images.axis_chunks_iter(Axis(1), channels)
}

/// The channels of several images to write to, group by group.
fn by_groups_mut<'a, S>(
    images: &'a mut ArrayViewMut4<'_, S>,
    groups: usize,
) -> impl Iterator<Item = ArrayViewMut4<'a, S>> {
    let channels = images.dim().1 / groups;
    images.axis_chunks_iter_mut(Axis(1), channels)
}

/// Several samples' outputs as a matrix: (filters, samples · positions).
fn filters_first<S>(outputs: ArrayView4<'_, S>) -> Operand<'_, S> {
    Operand::new(outputs.permuted_axes([1, 0, 2, 3]), 1)
}

impl<S: Scalar> Passes<S> for Conv2dLayer {
    fn forward(
        &self,
        mut parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let weight = take(&mut parameters, self.weight_shape());
        let bias = take(&mut parameters, self.filters);
        let mut output = output;
        let mut planes = rows(output.view_mut(), self.positions());
        for (plane, bias) in planes.rows_mut().into_iter().zip(bias.iter().cycle()) {
            flat_mut(plane).fill(*bias);
        }
        let at_once = self.samples_at_once();
        let mut padder = self.incoming().padder(at_once.min(input.dim().0), memory.room);
        let outputs = output.axis_chunks_iter_mut(Axis(0), at_once);
        for (x, mut y) in input.axis_chunks_iter(Axis(0), at_once).zip(outputs) {
            let x = padder.padded(x);
            let groups = weight.outer_iter().zip(by_groups_mut(&mut y, self.groups));
            for (group, (w, y)) in groups.enumerate() {
                let y = Target::new(y.permuted_axes([1, 0, 2, 3]));
                let u = self.unfolded(x, group);
                matmul(Operand::new(w, 1), u, y, Update::Add, memory.packing);
            }
        }
    }

    /// dW = Σₙ dYₙ·unfold(Xₙ)ᵀ, db = Σₙ Σ over the positions of dYₙ, dXₙ = fold(Wᵀ·dYₙ).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        mut parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let mut dw = take_mut(&mut parameter_gradient, self.weight_shape());
        let db = take_mut(&mut parameter_gradient, self.filters);
        let (input, dy) = (passed.input, passed.output_gradient);
        let planes = rows(dy, self.positions());
        sum_in_blocks(dy.dim().0, [flat_mut(db)], &|sample, filters, [db]| {
            for (filter, db) in filters.zip(&mut **db) {
                *db += sum(flat(planes.row(sample * self.filters + filter)));
            }
        });
        dw.fill(S::ZERO);
        let at_once = self.samples_at_once();
        let mut padder = self.incoming().padder(at_once.min(input.dim().0), memory.room);
        let gradients = dy.axis_chunks_iter(Axis(0), at_once);
        for (x, dy) in input.axis_chunks_iter(Axis(0), at_once).zip(gradients) {
            let x = padder.padded(x);
            let groups = dw.outer_iter_mut().zip(by_groups(&dy, self.groups));
            for (group, (dw, dy)) in groups.enumerate() {
                let u = self.unfolded(x, group).transposed();
                matmul(filters_first(dy), u, Target::new(dw), Update::Add, memory.packing);
            }
        }
        let Some(dx) = input_gradient else { return };
        let mut parameters = passed.parameters;
        let weight = take(&mut parameters, self.weight_shape());
        input_gradient::overwrite(self, weight, dy, dx, memory.room, memory.packing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, check_many_rows, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (filters, groups, kernel, stride, padding, incoming) in [
            (1, 1, [1, 1], [1, 1], [0, 0], [1, 1, 1]),
            (3, 1, [3, 3], [1, 1], [1, 1], [2, 5, 6]),
            (2, 1, [5, 3], [1, 1], [0, 1], [2, 7, 5]),
            (2, 1, [3, 5], [1, 1], [4, 2], [1, 4, 6]),
            (4, 1, [2, 3], [2, 3], [1, 2], [3, 6, 7]),
            (2, 1, [3, 3], [1, 2], [0, 0], [1, 5, 8]),
            (2, 1, [1, 1], [3, 2], [3, 4], [1, 2, 2]),
            (4, 2, [3, 2], [1, 2], [1, 0], [6, 5, 6]),
            (6, 3, [3, 3], [2, 1], [1, 1], [3, 5, 6]),
            (3, 3, [1, 1], [1, 1], [0, 0], [3, 2, 3]),
        ] {
            let keys = Conv2d {
                stride: stride.into(),
                padding: padding.into(),
                groups,
                ..Conv2d::new(filters, kernel)
            };
            check(&fit(keys, &incoming), incoming.iter().product(), 3);
        }
    }

    #[test]
    fn a_padding_far_beyond_the_image_is_refused_with_one_that_fits() {
        for padding in [1_000_000, usize::MAX] {
            let mut keys = Conv2d {
                padding: padding.into(),
                ..Conv2d::new(4, [3, 5])
            };
            let misfit = Layer::new(&keys.clone().into(), &[1, 28, 28], "relu").unwrap_err();
            assert_eq!(
                misfit,
                format!(
                    "has padding = {padding}×{padding}, which makes the image too large; \
                    set padding to 2×4 or less"
                )
            );
            keys.padding = [2, 4].into();
            assert!(Layer::new(&keys.into(), &[1, 28, 28], "relu").is_ok());
        }
    }

    #[test]
    fn groups_that_do_not_divide_channels_and_filters_are_refused() {
        let misfit = |filters, groups| {
            let keys = Conv2d {
                groups,
                ..Conv2d::new(filters, 1)
            };
            Layer::new(&keys.into(), &[4, 3, 3], "relu").unwrap_err()
        };
        assert_eq!(
            misfit(6, 4),
            "has groups = 4, but relu gives 4 channels, and filters = 6; set groups to a divisor of both"
        );
        assert!(misfit(6, 3).contains("a divisor of both"));
        assert!(misfit(4, 0).contains("set groups to 1"));
    }

    #[test]
    fn the_gradient_of_its_bias_is_exact_over_many_samples() {
        check_many_rows(&fit(Conv2d::new(3, 1), &[1, 1, 1]), 262_144);
    }
}
