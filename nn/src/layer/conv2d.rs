use super::window::{Window, image};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::extent::Extent;
use crate::fnv1a::Fnv1a;
use crate::kernel::{Update, product};
use crate::lanes::{add, sum};
use crate::scalar::Scalar;
use crate::tensor::{matrix, matrix_mut};
use serde::{Deserialize, Serialize};

/// Convolution (cross-correlation, strictly), like `torch.nn.Conv2d`: Yₙ = W·unfold(Xₙ) + b for each sample n.
///
/// X: (batch, channels, height, width), W: (filters, channels, kernel height, kernel width), b: (filters),
/// Y: (batch, filters, out height, out width), unfold(Xₙ): (fan in, places) with fan in = channels · kernel height ·
/// kernel width and places = out height · out width.
///
/// With groups, each group of filters sees its own group of channels only, as if the groups were convolutions side by side: W is
/// (filters, channels / groups, kernel height, kernel width). As many groups as channels make it depthwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// How many channels come out.
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
    #[serde(default = "one_group")]
    pub groups: usize,
    /// How many channels come in, if the run file wants it checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
                "has groups = {groups}, but {from} gives {given} channels, and filters = {filters}; set groups to a divisor of \
                 both"
            ));
        }
        let window = Window::new(Extent { height, width }, "kernel", kernel, stride, padding)?;
        let unfolded = count(&[
            given,
            kernel.height,
            kernel.width,
            window.places.height,
            window.places.width,
        ]);
        if unfolded.is_none_or(|unfolded| unfolded > MAX_ELEMENTS) {
            return Err(format!(
                "unfolds a sample to more than {MAX_ELEMENTS} numbers ({given} channels · kernel {kernel} · {} \
                 places); make the kernel or the image smaller, or the stride larger",
                window.places
            ));
        }
        Ok(Conv2dLayer {
            channels: given,
            filters,
            groups,
            window,
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
            room: self.unfolded(),
            ..Needs::default()
        }
    }
}

impl Conv2dLayer {
    /// How many numbers of a sample one output is a sum over.
    fn fan_in(&self) -> usize {
        self.channels / self.groups * self.window.size.height * self.window.size.width
    }

    /// How many numbers a sample unfolds to: the groups one after the other.
    fn unfolded(&self) -> usize {
        self.groups * self.fan_in() * self.places()
    }

    /// How many filters a group has.
    fn group_filters(&self) -> usize {
        self.filters / self.groups
    }

    fn places(&self) -> usize {
        self.window.places.height * self.window.places.width
    }

    fn elements(&self) -> usize {
        self.channels * self.window.plane.height * self.window.plane.width
    }

    /// Row (channel, kernel row, kernel column) of the unfolded sample is what that corner of the kernel sees at each
    /// of its places: the channel's plane, shifted.
    fn unfold<S: Scalar>(&self, sample: &[S], unfolded: &mut [S]) {
        let Window {
            plane,
            size,
            stride,
            padding,
            places,
        } = self.window;
        let mut rows = unfolded.chunks_exact_mut(self.places());
        for x in sample.chunks_exact(plane.height * plane.width) {
            for (ky, kx) in (0..size.height).flat_map(|ky| (0..size.width).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let (inside_y, inside_x) = (self.window.rows(ky), self.window.columns(kx));
                if inside_y.is_empty() || inside_x.is_empty() {
                    row.fill(S::ZERO);
                    continue;
                }
                let first_x = inside_x.start * stride.width + kx - padding.width;
                row[..inside_y.start * places.width].fill(S::ZERO);
                row[inside_y.end * places.width..].fill(S::ZERO);
                if self.keeps_rows_apart() {
                    // One copy instead of one for each row; what wraps around is then set to zero.
                    let from = (inside_y.start + ky - padding.height) * plane.width + first_x;
                    let place = inside_y.start * places.width + inside_x.start;
                    let length = (inside_y.len() - 1) * places.width + inside_x.len();
                    row[place..place + length].copy_from_slice(&x[from..from + length]);
                    for row in row[inside_y.start * places.width..]
                        .chunks_exact_mut(places.width)
                        .take(inside_y.len())
                    {
                        row[..inside_x.start].fill(S::ZERO);
                        row[inside_x.end..].fill(S::ZERO);
                    }
                    continue;
                }
                for y in inside_y {
                    let row = &mut row[y * places.width..][..places.width];
                    row[..inside_x.start].fill(S::ZERO);
                    row[inside_x.end..].fill(S::ZERO);
                    let x = &x[(y * stride.height + ky - padding.height) * plane.width + first_x..];
                    let row = &mut row[inside_x.clone()];
                    if stride.width == 1 {
                        row.copy_from_slice(&x[..row.len()]);
                    } else {
                        for (place, value) in row.iter_mut().zip(x.iter().step_by(stride.width)) {
                            *place = *value;
                        }
                    }
                }
            }
        }
    }

    /// The reverse of `unfold`: adds each number of the unfolded sample to where it came from. What came from the
    /// padding is dropped, and may be set to zero on the way.
    fn fold<S: Scalar>(&self, unfolded: &mut [S], sample: &mut [S]) {
        let Window {
            plane,
            size,
            stride,
            padding,
            places,
        } = self.window;
        sample.fill(S::ZERO);
        let mut rows = unfolded.chunks_exact_mut(self.places());
        for x in sample.chunks_exact_mut(plane.height * plane.width) {
            for (ky, kx) in (0..size.height).flat_map(|ky| (0..size.width).map(move |kx| (ky, kx))) {
                let Some(row) = rows.next() else { return };
                let (inside_y, inside_x) = (self.window.rows(ky), self.window.columns(kx));
                if inside_y.is_empty() || inside_x.is_empty() {
                    continue;
                }
                let first_x = inside_x.start * stride.width + kx - padding.width;
                if self.keeps_rows_apart() {
                    for row in row[inside_y.start * places.width..]
                        .chunks_exact_mut(places.width)
                        .take(inside_y.len())
                    {
                        row[..inside_x.start].fill(S::ZERO);
                        row[inside_x.end..].fill(S::ZERO);
                    }
                    let from = inside_y.start * places.width + inside_x.start;
                    let place = (inside_y.start + ky - padding.height) * plane.width + first_x;
                    let length = (inside_y.len() - 1) * places.width + inside_x.len();
                    add(&mut x[place..place + length], &row[from..from + length]);
                    continue;
                }
                for y in inside_y {
                    let row = &row[y * places.width..][inside_x.clone()];
                    let x = &mut x[(y * stride.height + ky - padding.height) * plane.width + first_x..];
                    if stride.width == 1 {
                        add(&mut x[..row.len()], row);
                    } else {
                        for (place, value) in x.iter_mut().step_by(stride.width).zip(row) {
                            *place += *value;
                        }
                    }
                }
            }
        }
    }

    /// Whether the output's rows are as long as the input's and one window's step is one number: then a whole plane is
    /// shifted in one piece.
    fn keeps_rows_apart(&self) -> bool {
        self.window.stride == 1.into() && self.window.places.width == self.window.plane.width
    }
}

impl<S: Scalar> Passes<S> for Conv2dLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (fan_in, places, filters) = (self.fan_in(), self.places(), self.group_filters());
        let (weight, bias) = parameters.split_at(self.filters * fan_in);
        let unfolded = &mut memory.room[..self.unfolded()];
        let samples = input.chunks_exact(self.elements());
        for (x, y) in samples.zip(output.chunks_exact_mut(self.filters * places)) {
            self.unfold(x, unfolded);
            for (plane, bias) in y.chunks_exact_mut(places).zip(bias) {
                plane.fill(*bias);
            }
            let groups = weight
                .chunks_exact(filters * fan_in)
                .zip(unfolded.chunks_exact(fan_in * places))
                .zip(y.chunks_exact_mut(filters * places));
            for ((w, u), y) in groups {
                let (w, u) = (matrix(w, filters, fan_in), matrix(u, fan_in, places));
                product(w, u, matrix_mut(y, filters, places), Update::Add, memory.packing);
            }
        }
    }

    /// dW = Σₙ dYₙ·unfold(Xₙ)ᵀ, db = Σₙ Σ over the places of dYₙ, dXₙ = fold(Wᵀ·dYₙ).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        mut input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (fan_in, places, elements) = (self.fan_in(), self.places(), self.elements());
        let filters = self.group_filters();
        let (weight, _) = passed.parameters.split_at(self.filters * fan_in);
        let unfolded = &mut memory.room[..self.unfolded()];
        parameter_gradient.fill(S::ZERO);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(self.filters * fan_in);
        let samples = passed.input.chunks_exact(elements);
        for (sample, (x, dy)) in samples
            .zip(passed.output_gradient.chunks_exact(self.filters * places))
            .enumerate()
        {
            for (bias_gradient, plane) in bias_gradient.iter_mut().zip(dy.chunks_exact(places)) {
                *bias_gradient += sum(plane);
            }
            self.unfold(x, unfolded);
            let groups = dy
                .chunks_exact(filters * places)
                .zip(unfolded.chunks_exact_mut(fan_in * places))
                .zip(weight_gradient.chunks_exact_mut(filters * fan_in))
                .zip(weight.chunks_exact(filters * fan_in));
            for (((dy, u), dw), w) in groups {
                let dy = matrix(dy, filters, places);
                let dw = matrix_mut(dw, filters, fan_in);
                product(
                    dy,
                    matrix(u, fan_in, places).reversed_axes(),
                    dw,
                    Update::Add,
                    memory.packing,
                );
                if input_gradient.is_some() {
                    let w = matrix(w, filters, fan_in).reversed_axes();
                    product(w, dy, matrix_mut(u, fan_in, places), Update::Overwrite, memory.packing);
                }
            }
            if let Some(input_gradient) = &mut input_gradient {
                self.fold(unfolded, &mut input_gradient[sample * elements..][..elements]);
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
