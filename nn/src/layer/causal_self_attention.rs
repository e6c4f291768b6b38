use super::affine::Affine;
use super::sequence::sequence;
use super::softmax::{self, softmax};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::fnv1a::Fnv1a;
use crate::initial::Initial;
use crate::kernel::{Operand, Packing, Target, Update, product};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How many positions are multiplied at once: blocks to the right of the diagonal, nearly half of all where there are many, are
/// left out.
const BLOCK: usize = 32;

/// Each position looks at itself and those before it (Vaswani et al., arXiv 1706.03762), like `torch.nn.MultiheadAttention(width,
/// heads, batch_first=True)` of X, X and X with a causal mask and without dropout.
///
/// [Q K V] = X·Wᵢᵀ + bᵢ; of each head, which has its share of their columns, P = softmax(Q·Kᵀ / √(width / heads)), over the
/// positions up to the row's own, and A = P·V; Y = A·Wₒᵀ + bₒ.
///
/// X, Y, Q, K, V, A: (batch, positions, width), P: (batch, heads, positions, positions), Wᵢ: (3 · width, width), bᵢ: (3 · width),
/// Wₒ: (width, width), bₒ: (width).
///
/// Both weights start as a linear layer's, and both biases at 0. PyTorch starts Wₒ and the biases so too, but Wᵢ from Xavier's √1.5/√width
/// instead of 1/√width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CausalSelfAttention {
    /// Into how many parts the width is divided, each with probabilities of its own.
    pub heads: usize,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct CausalSelfAttentionLayer {
    positions: usize,
    width: usize,
    heads: usize,
}

impl Keys for CausalSelfAttention {
    type Layer = CausalSelfAttentionLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<CausalSelfAttentionLayer, String> {
        let CausalSelfAttention { heads } = *self;
        let [positions, width] = sequence(incoming, from)?;
        if heads == 0 {
            return Err("has heads = 0; set heads to 1 or more".into());
        }
        if !width.is_multiple_of(heads) {
            return Err(format!(
                "has heads = {heads}, but {from} gives positions of {width} numbers; set heads to a divisor of {width}"
            ));
        }
        if count(&[heads, positions, positions]).is_none_or(|probabilities| probabilities > MAX_ELEMENTS) {
            return Err(format!(
                "has more than {MAX_ELEMENTS} probabilities for a sample ({heads} heads · {positions} positions · {positions} \
                 positions); make the sequence shorter"
            ));
        }
        Ok(CausalSelfAttentionLayer {
            positions,
            width,
            heads,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.heads);
    }
}

impl Sizes for CausalSelfAttentionLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.positions, self.width]
    }

    fn tensors(&self) -> Vec<Tensor> {
        let width = self.width;
        let tensor = |name: &str, shape: &[usize], initial| Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            initial,
        };
        let weight = Initial::Uniform { fan_in: width };
        // A width that cannot be tripled has a weight that nobody can count either, which the chain refuses.
        let triple = width.saturating_mul(3);
        vec![
            tensor("in_proj_weight", &[triple, width], weight),
            tensor("in_proj_bias", &[triple], Initial::Zeros),
            tensor("out_proj.weight", &[width, width], weight),
            tensor("out_proj.bias", &[width], Initial::Zeros),
        ]
    }

    /// Q, K, V, A and P; and to work in, the gradients by a head's P and Q.
    fn needs(&self) -> Needs {
        let square = self.positions * self.positions;
        Needs {
            numbers: self.elements().saturating_mul(4).saturating_add(self.heads * square),
            room: square.saturating_add(self.positions * self.head_width()),
            ..Needs::default()
        }
    }
}

/// What the forward pass keeps, and what the backward pass overwrites with the gradients by it, but for P.
struct Kept<'a, S> {
    queries: &'a mut [S],
    keys: &'a mut [S],
    values: &'a mut [S],
    attended: &'a mut [S],
    probabilities: &'a mut [S],
}

impl<S> Kept<'_, S> {
    /// Each sample's.
    fn samples(&mut self, elements: usize, probabilities: usize) -> impl Iterator<Item = Kept<'_, S>> {
        let queries_and_keys = self
            .queries
            .chunks_exact_mut(elements)
            .zip(self.keys.chunks_exact_mut(elements));
        let values_and_attended = self
            .values
            .chunks_exact_mut(elements)
            .zip(self.attended.chunks_exact_mut(elements));
        queries_and_keys
            .zip(values_and_attended)
            .zip(self.probabilities.chunks_exact_mut(probabilities))
            .map(|(((queries, keys), (values, attended)), probabilities)| Kept {
                queries,
                keys,
                values,
                attended,
                probabilities,
            })
    }
}

impl CausalSelfAttentionLayer {
    /// How many numbers a sample has.
    fn elements(&self) -> usize {
        self.positions * self.width
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    /// Each of the four projections: to Q, K, V and Y.
    fn projection(&self) -> Affine {
        Affine {
            inputs: self.width,
            outputs: self.width,
        }
    }

    fn scale<S: Scalar>(&self) -> S {
        S::from_f64(1.0 / (self.head_width() as f64).sqrt())
    }

    /// The columns of each head.
    fn columns(&self) -> impl Iterator<Item = Range<usize>> {
        let head_width = self.head_width();
        (0..self.heads).map(move |head| head * head_width..(head + 1) * head_width)
    }

    /// Positions, block by block.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let positions = self.positions;
        (0..positions)
            .step_by(BLOCK)
            .map(move |start| start..positions.min(start + BLOCK))
    }

    /// Some positions of one head's share of a sample.
    fn part<'a, S>(&self, of: &'a [S], rows: &Range<usize>, columns: &Range<usize>) -> Operand<'a, S> {
        Operand::part(of, self.width, rows.clone(), columns.clone())
    }

    fn kept<'a, S>(&self, numbers: &'a mut [S], batch: usize) -> Kept<'a, S> {
        let elements = self.elements() * batch;
        let (queries, rest) = numbers.split_at_mut(elements);
        let (keys, rest) = rest.split_at_mut(elements);
        let (values, rest) = rest.split_at_mut(elements);
        let (attended, probabilities) = rest.split_at_mut(elements);
        Kept {
            queries,
            keys,
            values,
            attended,
            probabilities,
        }
    }

    /// P and A of one sample. Of P, blocks to the right of the diagonal are neither written nor ever read, and in the blocks on
    /// the diagonal it is zero to the right of it.
    fn attend<S: Scalar>(&self, kept: Kept<'_, S>, packing: &mut Packing<S>) {
        let (positions, width) = (self.positions, self.width);
        let probabilities = kept.probabilities.chunks_exact_mut(positions * positions);
        for (columns, p) in self.columns().zip(probabilities) {
            for rows in self.blocks() {
                let seen = 0..rows.end;
                let q = self.part(kept.queries, &rows, &columns);
                let k = self.part(kept.keys, &seen, &columns);
                let scores = Target::part(p, positions, rows.clone(), seen.clone());
                product(q, k.transposed(), scores, Update::Overwrite, packing);
                for row in rows.clone() {
                    let (visible, masked) = p[row * positions..][..rows.end].split_at_mut(row + 1);
                    softmax(visible, self.scale());
                    masked.fill(S::ZERO);
                }
                let v = self.part(kept.values, &seen, &columns);
                let p = Operand::part(p, positions, rows.clone(), seen);
                let a = Target::part(kept.attended, width, rows, columns.clone());
                product(p, v, a, Update::Overwrite, packing);
            }
        }
    }

    /// Of one sample, where dA has taken A's place, puts dQ, dK and dV in the places of Q, K and V: of each head, dP = dA·Vᵀ,
    /// dV = Pᵀ·dA, and with the gradient by the scores, dS, dQ = dS·K, dK = dSᵀ·Q.
    fn attend_backward<S: Scalar>(&self, kept: Kept<'_, S>, room: &mut [S], packing: &mut Packing<S>) {
        let (positions, width, head_width) = (self.positions, self.width, self.head_width());
        let (ds, room) = room.split_at_mut(positions * positions);
        let dq = &mut room[..positions * head_width];
        let probabilities = kept.probabilities.chunks_exact(positions * positions);
        for (columns, p) in self.columns().zip(probabilities) {
            for rows in self.blocks() {
                let seen = 0..rows.end;
                let dp = Target::part(ds, positions, rows.clone(), seen.clone());
                let da = self.part(kept.attended, &rows, &columns);
                let v = self.part(kept.values, &seen, &columns);
                product(da, v.transposed(), dp, Update::Overwrite, packing);
                for row in rows.clone() {
                    let (visible, masked) = ds[row * positions..][..rows.end].split_at_mut(row + 1);
                    softmax::backward(&p[row * positions..][..=row], visible, self.scale());
                    masked.fill(S::ZERO);
                }
                let ds = Operand::part(ds, positions, rows.clone(), seen.clone());
                let k = self.part(kept.keys, &seen, &columns);
                let dq = Target::part(dq, head_width, rows, 0..head_width);
                product(ds, k, dq, Update::Overwrite, packing);
            }
            // Every dP and dQ of the head has been computed: its V and K are needed no more.
            for block in self.blocks() {
                let seeing = block.start..positions;
                let p = Operand::part(p, positions, seeing.clone(), block.clone());
                let da = self.part(kept.attended, &seeing, &columns);
                let dv = Target::part(kept.values, width, block.clone(), columns.clone());
                product(p.transposed(), da, dv, Update::Overwrite, packing);
                let ds = Operand::part(ds, positions, seeing.clone(), block.clone());
                let q = self.part(kept.queries, &seeing, &columns);
                let dk = Target::part(kept.keys, width, block, columns.clone());
                product(ds.transposed(), q, dk, Update::Overwrite, packing);
            }
            for (row, dq) in kept.queries.chunks_exact_mut(width).zip(dq.chunks_exact(head_width)) {
                row[columns.clone()].copy_from_slice(dq);
            }
        }
    }
}

impl<S: Scalar> Passes<S> for CausalSelfAttentionLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (width, packing) = (self.width, memory.packing);
        let (incoming, outgoing) = parameters.split_at(3 * width * (width + 1));
        let (weight, bias) = incoming.split_at(3 * width * width);
        let mut kept = self.kept(memory.numbers, input.len() / self.elements());
        let three = weight.chunks_exact(width * width).zip(bias.chunks_exact(width));
        for (parameters, projected) in three.zip([&mut *kept.queries, &mut *kept.keys, &mut *kept.values]) {
            self.projection().forward(parameters, input, projected, packing);
        }
        let square = self.positions * self.positions;
        for sample in kept.samples(self.elements(), self.heads * square) {
            self.attend(sample, packing);
        }
        let outgoing = self.projection().split(outgoing);
        self.projection().forward(outgoing, kept.attended, output, packing);
    }

    /// Through each projection as through a linear layer. The gradients by A, Q, K and V take the places of what they are by.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (width, packing, projection) = (self.width, memory.packing, self.projection());
        let (incoming, outgoing) = passed.parameters.split_at(3 * width * (width + 1));
        let (incoming_gradient, outgoing_gradient) = parameter_gradient.split_at_mut(incoming.len());
        let mut kept = self.kept(memory.numbers, passed.input.len() / self.elements());

        let (weight, _) = projection.split(outgoing);
        let gradients = outgoing_gradient.split_at_mut(weight.len());
        projection.by_parameters(kept.attended, passed.output_gradient, gradients, packing);
        let dy = passed.output_gradient;
        projection.by_input(weight, dy, kept.attended, Update::Overwrite, packing);

        let square = self.positions * self.positions;
        for sample in kept.samples(self.elements(), self.heads * square) {
            self.attend_backward(sample, memory.room, packing);
        }

        let projected = [&*kept.queries, &*kept.keys, &*kept.values];
        let (dw, db) = incoming_gradient.split_at_mut(3 * width * width);
        let three = dw.chunks_exact_mut(width * width).zip(db.chunks_exact_mut(width));
        for (gradient, gradients) in projected.into_iter().zip(three) {
            projection.by_parameters(passed.input, gradient, gradients, packing);
        }
        let Some(input_gradient) = input_gradient else { return };
        let updates = [Update::Overwrite, Update::Add, Update::Add];
        let weights = incoming.chunks_exact(width * width);
        for ((gradient, weight), update) in projected.into_iter().zip(weights).zip(updates) {
            projection.by_input(weight, gradient, input_gradient, update, packing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit, forward, numbers};

    fn attention(heads: usize, positions: usize, width: usize) -> Layer {
        fit(CausalSelfAttention { heads }, &[positions, width])
    }

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (heads, positions, width, batch) in [
            (1, 1, 1, 1),
            (2, 5, 6, 3),
            (3, 2, 3, 2),
            (1, BLOCK + 3, 2, 2),
            (2, 2 * BLOCK + 1, 2, 1),
        ] {
            check(&attention(heads, positions, width), positions * width, batch);
        }
    }

    /// The formula, number by number.
    fn formula(heads: usize, positions: usize, width: usize, parameters: &[f64], x: &[f64]) -> Vec<f64> {
        let (in_weight, rest) = parameters.split_at(3 * width * width);
        let (in_bias, rest) = rest.split_at(3 * width);
        let (out_weight, out_bias) = rest.split_at(width * width);
        let affine = |x: &[f64], weight: &[f64], bias: &[f64], row: usize| -> f64 {
            let products = x.iter().zip(&weight[row * width..]).map(|(x, w)| x * w);
            products.sum::<f64>() + bias[row]
        };
        let row = |position: usize| &x[position * width..][..width];
        let qkv = |position, column| affine(row(position), in_weight, in_bias, column);
        let head_width = width / heads;
        let mut output = Vec::new();
        for i in 0..positions {
            let mut attended = vec![0.0; width];
            for head in 0..heads {
                let columns = head * head_width..(head + 1) * head_width;
                let score = |j| -> f64 {
                    let products = columns.clone().map(|column| qkv(i, column) * qkv(j, width + column));
                    (products.sum::<f64>() / (head_width as f64).sqrt()).exp()
                };
                let total: f64 = (0..=i).map(score).sum();
                for column in columns.clone() {
                    attended[column] = (0..=i).map(|j| score(j) / total * qkv(j, 2 * width + column)).sum();
                }
            }
            output.extend((0..width).map(|column| affine(&attended, out_weight, out_bias, column)));
        }
        output
    }

    #[test]
    fn what_comes_out_is_the_formula() {
        for (heads, positions, width, batch) in [(2, 7, 6, 2), (1, 2 * BLOCK + 5, 3, 1), (4, BLOCK, 4, 2)] {
            let layer = attention(heads, positions, width);
            let (parameters, input) = (
                numbers(4 * width * (width + 1), 1),
                numbers(batch * positions * width, 80),
            );
            let output = forward(&layer, &parameters, &input, batch);
            let samples = input.chunks_exact(positions * width);
            let expected: Vec<f64> = samples
                .flat_map(|x| formula(heads, positions, width, &parameters, x))
                .collect();
            for (ours, formula) in output.iter().zip(&expected) {
                assert!((ours - formula).abs() < 1e-12, "{ours} for {formula}");
            }
        }
    }

    #[test]
    fn no_position_sees_a_later_one() {
        let (positions, width) = (BLOCK + 8, 4);
        let layer = attention(2, positions, width);
        let (parameters, input) = (numbers(80, 1), numbers(positions * width, 80));
        let output = forward(&layer, &parameters, &input, 1);
        for position in [0, 5, BLOCK - 1, BLOCK, positions - 1] {
            let mut changed = input.clone();
            changed[position * width..].fill(2.0);
            let changed = forward(&layer, &parameters, &changed, 1);
            assert_eq!(changed[..position * width], output[..position * width]);
            assert_ne!(changed[position * width..], output[position * width..]);
        }
    }

    #[test]
    fn its_tensors_are_named_and_shaped_as_pytorchs() {
        let tensors = attention(2, 3, 4).tensors();
        let named: Vec<_> = tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), &*tensor.shape))
            .collect();
        assert_eq!(
            named,
            [
                ("in_proj_weight", &[12, 4][..]),
                ("in_proj_bias", &[12]),
                ("out_proj.weight", &[4, 4]),
                ("out_proj.bias", &[4]),
            ]
        );
    }

    #[test]
    fn heads_that_do_not_divide_the_width_and_sequences_too_long_are_refused() {
        let misfit = |heads, incoming: &[usize]| {
            Layer::new(&CausalSelfAttention { heads }.into(), incoming, "layer_norm").unwrap_err()
        };
        assert_eq!(
            misfit(3, &[16, 8]),
            "has heads = 3, but layer_norm gives positions of 8 numbers; set heads to a divisor of 8"
        );
        assert!(misfit(0, &[16, 8]).contains("set heads to 1 or more"));
        assert!(
            misfit(4, &[128]).starts_with("expects a sequence (positions, width), but layer_norm gives 128; put an")
        );
        assert!(misfit(1, &[8193, 1]).contains("make the sequence shorter"));
        assert!(misfit(1, &[usize::MAX, 1]).contains("make the sequence shorter"));
    }
}
