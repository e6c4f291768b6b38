use super::images::Images;
use super::window::{Window, image};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::extent::{Extent, whole, whole_if_set};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::sum;
use crate::kernel::tensor::{flat, flat_mut, reshaped, take, take_mut, tensor, tensor_mut};
use crate::kernel::{Operand, Packing, Target, Update, matmul};
use ndarray::{ArrayView4, ArrayView5, ArrayViewMut3, ArrayViewMut4, Axis, Zip, s};
use serde::{Deserialize, Serialize};

/// Convolution (cross-correlation, strictly), like `torch.nn.Conv2d`: Yₙ = W·unfold(Xₙ) + b for each sample n.
///
/// X: (batch, channels, height, width), W: (filters, channels, kernel height, kernel width), b: (filters),
/// Y: (batch, filters, out height, out width), unfold(Xₙ): (fan in, places) with fan in = channels · kernel height ·
/// kernel width and places = out height · out width.
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
        vec![self.filters, self.window.places.height, self.window.places.width]
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

/// How many places a product takes at once, of as many samples as that are: small images share the packing of the
/// weights, and the sum over the places is as long as the product's blocks.
const PLACES_AT_ONCE: usize = 512;

impl Conv2dLayer {
    /// Whether what its passes work in can be counted and held.
    fn check_sizes(&self) -> Result<(), String> {
        let Conv2dLayer {
            channels,
            filters,
            window,
            ..
        } = self;
        let Window { size, places, .. } = window;
        let unfolded = count(&[*channels, size.height, size.width, places.height, places.width]);
        if unfolded.is_none_or(|unfolded| unfolded > MAX_ELEMENTS) {
            return Err(format!(
                "unfolds a sample to more than {MAX_ELEMENTS} numbers ({channels} channels · kernel {size} · {places} \
                 places); make the kernel or the image smaller, or the stride larger",
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

    fn places(&self) -> usize {
        self.window.places.height * self.window.places.width
    }

    /// How many samples are in one product.
    fn samples_at_once(&self) -> usize {
        (PLACES_AT_ONCE / self.places()).max(1)
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

    /// For a stride of 1: the gradient's images, padded so that a kernel sees of them what sees its middle's place.
    fn outgoing(&self) -> Option<Images> {
        let Window {
            size,
            stride,
            padding,
            places,
            ..
        } = self.window;
        let padding = Extent {
            height: (size.height - 1).checked_sub(padding.height)?,
            width: (size.width - 1).checked_sub(padding.width)?,
        };
        (stride == 1.into()).then_some(Images {
            channels: self.filters,
            plane: places,
            padding,
        })
    }

    /// The numbers that the passes work in, if they can be counted.
    fn room(&self) -> Option<usize> {
        let samples = self.samples_at_once();
        let by_input = match self.outgoing() {
            Some(images) => images
                .room(samples)?
                .checked_add(count(&[self.filters, self.fan_in()])?)?,
            None => count(&[samples, self.groups, self.fan_in(), self.places()])?,
        };
        Some(by_input.max(self.incoming().room(samples)?))
    }

    /// W by groups: (groups, filters, channels, kernel height, kernel width), filters and channels being those of a
    /// group.
    fn weight_shape(&self) -> [usize; 5] {
        let Extent { height, width } = self.window.size;
        let [channels, filters] = [self.channels, self.filters].map(|all| all / self.groups);
        [self.groups, filters, channels, height, width]
    }

    /// unfold(Xₙ) of one group, for several samples side by side: (fan in, samples · places).
    fn unfolded<'a, S>(&self, padded: ArrayView4<'a, S>, group: usize) -> Operand<'a, S> {
        let channels = self.channels / self.groups;
        let window = (self.window.size, self.window.stride, self.window.places);
        let channels = group * channels..(group + 1) * channels;
        self.incoming().unfolded(padded, channels, window)
    }

    /// The reverse of unfolding, from zeros: adds each number of an unfolded sample, (channels, kernel height, kernel
    /// width, out height, out width), to where it came from. What came from the padding is dropped.
    fn fold<S: Scalar>(&self, unfolded: ArrayView5<'_, S>, mut sample: ArrayViewMut3<'_, S>) {
        let Window { stride, padding, .. } = self.window;
        for (ky, kx) in self.window.corners() {
            let (rows, columns) = (self.window.rows(ky), self.window.columns(kx));
            if rows.is_empty() || columns.is_empty() {
                continue;
            }
            let first_y = rows.start * stride.height + ky - padding.height;
            let first_x = columns.start * stride.width + kx - padding.width;
            let seen = s![
                ..,
                first_y..first_y + (rows.len() - 1) * stride.height + 1;stride.height,
                first_x..first_x + (columns.len() - 1) * stride.width + 1;stride.width
            ];
            Zip::from(sample.slice_mut(seen))
                .and(unfolded.slice(s![.., ky, kx, rows, columns]))
                .for_each(|x, value| *x += *value);
        }
    }

    /// Overwrites the gradient by the input, of a few samples: dXₙ = fold(Wᵀ·dYₙ).
    fn input_gradient_by_folding<S: Scalar>(
        &self,
        weight: ArrayView5<'_, S>,
        dy: ArrayView4<'_, S>,
        mut dx: ArrayViewMut4<'_, S>,
        mut room: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let (samples, fan_in, places) = (dy.dim().0, self.fan_in(), self.places());
        let mut room = take_mut(&mut room, [samples, self.groups, fan_in, places]);
        let groups = weight.outer_iter().zip(by_groups(&dy, self.groups));
        for ((w, dy), u) in groups.zip(room.axis_iter_mut(Axis(1))) {
            let w = Operand::new(w.permuted_axes([1, 2, 3, 0]), 3);
            let u = Target::new(u.permuted_axes([1, 0, 2]));
            matmul(w, filters_first(dy), u, Update::Overwrite, packing);
        }
        let (size, out) = (self.window.size, self.window.places);
        let unfolded = [samples, self.channels, size.height, size.width, out.height, out.width];
        let unfolded = reshaped(room, unfolded);
        flat_mut(dx.view_mut()).fill(S::ZERO);
        for (unfolded, dx) in unfolded.outer_iter().zip(dx.outer_iter_mut()) {
            self.fold(unfolded, dx);
        }
    }

    /// Overwrites the gradient by the input, of a few samples, for a stride of 1: the convolution of dY with the
    /// kernels turned around, filters and channels exchanged.
    fn input_gradient_by_convolution<S: Scalar>(
        &self,
        images: &Images,
        turned: ArrayView5<'_, S>,
        dy: ArrayView4<'_, S>,
        mut dx: ArrayViewMut4<'_, S>,
        room: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let Window { plane, size, .. } = self.window;
        let filters = self.filters / self.groups;
        let dy = images.padded(dy, room);
        let groups = turned.outer_iter().zip(by_groups_mut(&mut dx, self.groups));
        for (group, (w, dx)) in groups.enumerate() {
            let seen = group * filters..(group + 1) * filters;
            let u = images.unfolded(dy, seen, (size, 1.into(), plane));
            let dx = Target::new(dx.permuted_axes([1, 0, 2, 3]));
            matmul(Operand::new(w, 1), u, dx, Update::Overwrite, packing);
        }
    }

    /// The kernels turned around, filters and channels exchanged: (groups, channels, filters, kernel height, kernel
    /// width).
    fn turn<'a, S: Scalar>(&self, weight: ArrayView5<'_, S>, room: &mut &'a mut [S]) -> ArrayView5<'a, S> {
        let [groups, filters, channels, height, width] = self.weight_shape();
        // A kernel that is turned around is read backwards.
        let kernels = reshaped(weight, [groups, filters, channels, height * width]);
        let turned = kernels.slice(s![.., .., .., ..;-1]).permuted_axes([0, 2, 1, 3]);
        let copy = flat_mut(take_mut(room, turned.raw_dim()));
        Zip::from(tensor_mut(copy, turned.raw_dim()))
            .and(turned)
            .for_each(|to, from| *to = *from);
        tensor(copy, [groups, channels, filters, height, width])
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

/// Several samples' outputs as a matrix: (filters, samples · places).
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
        let (input, mut output) = (input, output);
        for mut image in output.outer_iter_mut() {
            for (mut plane, bias) in image.outer_iter_mut().zip(bias) {
                plane.fill(*bias);
            }
        }
        let at_once = self.samples_at_once();
        let outputs = output.axis_chunks_iter_mut(Axis(0), at_once);
        for (x, mut y) in input.axis_chunks_iter(Axis(0), at_once).zip(outputs) {
            let x = self.incoming().padded(x, memory.room);
            let groups = weight.outer_iter().zip(by_groups_mut(&mut y, self.groups));
            for (group, (w, y)) in groups.enumerate() {
                let y = Target::new(y.permuted_axes([1, 0, 2, 3]));
                let u = self.unfolded(x, group);
                matmul(Operand::new(w, 1), u, y, Update::Add, memory.packing);
            }
        }
    }

    /// dW = Σₙ dYₙ·unfold(Xₙ)ᵀ, db = Σₙ Σ over the places of dYₙ, dXₙ = fold(Wᵀ·dYₙ).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        mut parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        parameter_gradient.fill(S::ZERO);
        let mut dw = take_mut(&mut parameter_gradient, self.weight_shape());
        let mut db = take_mut(&mut parameter_gradient, self.filters);
        let (input, dy) = (passed.input, passed.output_gradient);
        for image in dy.outer_iter() {
            for (db, plane) in db.iter_mut().zip(image.outer_iter()) {
                *db += sum(flat(plane));
            }
        }
        let at_once = self.samples_at_once();
        let gradients = dy.axis_chunks_iter(Axis(0), at_once);
        for (x, dy) in input.axis_chunks_iter(Axis(0), at_once).zip(gradients) {
            let x = self.incoming().padded(x, memory.room);
            let groups = dw.outer_iter_mut().zip(by_groups(&dy, self.groups));
            for (group, (dw, dy)) in groups.enumerate() {
                let u = self.unfolded(x, group).transposed();
                matmul(filters_first(dy), u, Target::new(dw), Update::Add, memory.packing);
            }
        }
        let Some(input_gradient) = input_gradient else { return };
        let mut dx = input_gradient;
        let mut parameters = passed.parameters;
        let weight = take(&mut parameters, self.weight_shape());
        let (outgoing, mut room) = (self.outgoing(), memory.room);
        let turned = outgoing.map(|images| (images, self.turn(weight, &mut room)));
        let gradients = dy.axis_chunks_iter(Axis(0), at_once);
        for (dx, dy) in dx.axis_chunks_iter_mut(Axis(0), at_once).zip(gradients) {
            match &turned {
                Some((images, turned)) => {
                    self.input_gradient_by_convolution(images, *turned, dy, dx, room, memory.packing);
                }
                None => self.input_gradient_by_folding(weight, dy, dx, room, memory.packing),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit};

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
}
