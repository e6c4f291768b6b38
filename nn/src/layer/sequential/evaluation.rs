//! The forward pass alone: nothing is kept for a backward pass, so that every layer works in the same memory.

use ndarray::ArrayView4;

use super::Sequential;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{tensor, tensor_mut};
use crate::layer::{Memory, Needs};
use crate::shape::of_batch;

impl Sequential {
    /// The memory that [`Sequential::evaluate`] works in: what goes into a layer and what comes out of it, in two
    /// buffers that change places, and what the neediest layer works with.
    pub(crate) fn evaluation_needs(&self) -> Needs {
        let needs = self.layers.iter().map(|link| link.layer.evaluation_needs());
        let most = needs.fold(Needs::default(), |most, needs| Needs {
            indices: most.indices.max(needs.indices),
            numbers: most.numbers.max(needs.numbers),
            room: most.room.max(needs.room),
        });
        Needs {
            numbers: most.numbers.saturating_add(self.widest.saturating_mul(2)),
            ..most
        }
    }

    /// What comes out, with the same bits as from [`Sequential::forward`] without random numbers.
    pub(crate) fn evaluate<'a, S: Scalar>(
        &self,
        parameters: &[S],
        input: ArrayView4<'_, S>,
        memory: Memory<'a, S>,
    ) -> ArrayView4<'a, S> {
        let Memory {
            indices,
            numbers,
            room,
            packing,
            ..
        } = memory;
        let batch = input.shape()[0];
        let (buffers, numbers) = numbers.split_at_mut(self.widest * batch * 2);
        let (mut came_in, mut coming_out) = buffers.split_at_mut(self.widest * batch);
        for (place, link) in self.layers.iter().enumerate() {
            let needs = link.layer.evaluation_needs();
            let memory = Memory {
                indices: &mut indices[..needs.indices * batch],
                numbers: &mut numbers[..needs.numbers * batch],
                room: &mut *room,
                packing: &mut *packing,
                random: None,
            };
            let input = match place.checked_sub(1).map(|before| &self.layers[before]) {
                Some(before) => tensor(
                    &came_in[..before.outputs * batch],
                    of_batch(batch, &before.output_shape),
                ),
                None => input.view(),
            };
            let shape = of_batch(batch, &link.output_shape);
            let output = tensor_mut(&mut coming_out[..link.outputs * batch], shape);
            let parameters = &parameters[link.range.clone()];
            link.layer.passes().evaluate(parameters, input, output, memory);
            std::mem::swap(&mut came_in, &mut coming_out);
        }
        let outputs = self.layers.last().map_or(0, |last| last.outputs);
        tensor(&came_in[..outputs * batch], of_batch(batch, self.output_shape()))
    }
}
