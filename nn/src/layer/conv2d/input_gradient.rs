//! The gradient by what goes into a convolution, in either of two ways.

use super::{Conv2dLayer, by_groups, by_groups_mut, filters_first};
use crate::extent::Extent;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut, reshaped, take_mut, tensor};
use crate::kernel::{Operand, Packing, Target, Update, matmul};
use crate::layer::count;
use crate::layer::images::{Images, Padder};
use crate::layer::window::Window;
use ndarray::{ArrayView4, ArrayView5, ArrayViewMut3, ArrayViewMut4, Axis, Zip, s};

/// How many numbers [`overwrite`] works in, if they can be counted.
pub(super) fn room(layer: &Conv2dLayer) -> Option<usize> {
    let samples = layer.samples_at_once();
    match outgoing(layer) {
        Some(images) => images
            .room(samples)?
            .checked_add(count(&[layer.filters, layer.fan_in()])?),
        None => count(&[samples, layer.groups, layer.fan_in(), layer.positions()]),
    }
}

/// Overwrites dX, which is Wᵀ·dYₙ folded for each sample n. For a stride of 1 it is a convolution, too, which is
/// faster.
pub(super) fn overwrite<S: Scalar>(
    layer: &Conv2dLayer,
    weight: ArrayView5<'_, S>,
    dy: ArrayView4<'_, S>,
    mut dx: ArrayViewMut4<'_, S>,
    mut room: &mut [S],
    packing: &mut Packing<S>,
) {
    let at_once = layer.samples_at_once();
    let samples = dy.axis_chunks_iter(Axis(0), at_once);
    let samples = samples.zip(dx.axis_chunks_iter_mut(Axis(0), at_once));
    match outgoing(layer) {
        Some(images) => {
            let turned = turn(layer, weight, &mut room);
            let mut padder = images.padder(at_once.min(dy.dim().0), room);
            samples.for_each(|(dy, dx)| by_convolution(layer, &mut padder, turned, dy, dx, packing));
        }
        None => samples.for_each(|(dy, dx)| by_folding(layer, weight, dy, dx, room, packing)),
    }
}

/// For a stride of 1: the gradient's images, padded so that a kernel sees of them what sees its middle's position.
fn outgoing(layer: &Conv2dLayer) -> Option<Images> {
    let Window {
        size,
        stride,
        padding,
        positions,
        ..
    } = layer.window;
    let padding = Extent {
        height: (size.height - 1).checked_sub(padding.height)?,
        width: (size.width - 1).checked_sub(padding.width)?,
    };
    (stride == 1.into()).then_some(Images {
        channels: layer.filters,
        plane: positions,
        padding,
    })
}

/// Of a few samples, for a stride of 1: the convolution of dY with the kernels turned around, filters and channels
/// exchanged.
fn by_convolution<S: Scalar>(
    layer: &Conv2dLayer,
    padder: &mut Padder<'_, S>,
    turned: ArrayView5<'_, S>,
    dy: ArrayView4<'_, S>,
    mut dx: ArrayViewMut4<'_, S>,
    packing: &mut Packing<S>,
) {
    let Window { plane, size, .. } = layer.window;
    let filters = layer.filters / layer.groups;
    let images = padder.images();
    let dy = padder.padded(dy);
    let groups = turned.outer_iter().zip(by_groups_mut(&mut dx, layer.groups));
    for (group, (w, dx)) in groups.enumerate() {
        let seen = group * filters..(group + 1) * filters;
        let u = images.unfolded(dy, seen, (size, 1.into(), plane));
        let dx = Target::new(dx.permuted_axes([1, 0, 2, 3]));
        matmul(Operand::new(w, 1), u, dx, Update::Overwrite, packing);
    }
}

/// The kernels turned around, filters and channels exchanged: (groups, channels, filters, kernel height, kernel width).
fn turn<'a, S: Scalar>(layer: &Conv2dLayer, weight: ArrayView5<'_, S>, room: &mut &'a mut [S]) -> ArrayView5<'a, S> {
    let [groups, filters, channels, height, width] = layer.weight_shape();
    let kernels = reshaped(weight, [groups, filters, channels, height * width]).permuted_axes([0, 2, 1, 3]);
    let turned = flat_mut(take_mut(room, kernels.len()));
    for (turned, kernel) in turned.chunks_exact_mut(height * width).zip(kernels.rows()) {
        for (to, from) in turned.iter_mut().zip(flat(kernel).iter().rev()) {
            *to = *from;
        }
    }
    tensor(turned, [groups, channels, filters, height, width])
}

/// Of a few samples: dXₙ = fold(Wᵀ·dYₙ).
fn by_folding<S: Scalar>(
    layer: &Conv2dLayer,
    weight: ArrayView5<'_, S>,
    dy: ArrayView4<'_, S>,
    mut dx: ArrayViewMut4<'_, S>,
    mut room: &mut [S],
    packing: &mut Packing<S>,
) {
    let (samples, fan_in, positions) = (dy.dim().0, layer.fan_in(), layer.positions());
    let mut room = take_mut(&mut room, [samples, layer.groups, fan_in, positions]);
    let groups = weight.outer_iter().zip(by_groups(&dy, layer.groups));
    for ((w, dy), u) in groups.zip(room.axis_iter_mut(Axis(1))) {
        let w = Operand::new(w.permuted_axes([1, 2, 3, 0]), 3);
        let u = Target::new(u.permuted_axes([1, 0, 2]));
        matmul(w, filters_first(dy), u, Update::Overwrite, packing);
    }
    let (size, out) = (layer.window.size, layer.window.positions);
    let unfolded = [samples, layer.channels, size.height, size.width, out.height, out.width];
    let unfolded = reshaped(room, unfolded);
    flat_mut(dx.view_mut()).fill(S::ZERO);
    for (unfolded, dx) in unfolded.outer_iter().zip(dx.outer_iter_mut()) {
        fold(layer, unfolded, dx);
    }
}

/// The reverse of unfolding, from zeros: adds each number of an unfolded sample, (channels, kernel height, kernel
/// width, out height, out width), to where it came from. What came from the padding is dropped.
fn fold<S: Scalar>(layer: &Conv2dLayer, unfolded: ArrayView5<'_, S>, mut sample: ArrayViewMut3<'_, S>) {
    let Window { stride, padding, .. } = layer.window;
    for (ky, kx) in layer.window.corners() {
        let (rows, columns) = (layer.window.rows(ky), layer.window.columns(kx));
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
