use super::affine;
use super::sequence::sequence;
use super::softmax::{self, softmax};
use super::{Keys, MAX_ELEMENTS, Memory, Needs, Passed, Passes, Sizes, Tensor, count};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{OnePiece, rows, shaped, take, take_mut};
use crate::kernel::{Packing, Update, matmul};
use crate::parameters::Initial;
use crate::whole::whole;
use ndarray::{ArrayBase, ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut4, Ix1, Ix4, RawData, s};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How many positions are multiplied at once: blocks to the right of the diagonal, nearly half of all where there are
/// many, are left out.
const BLOCK: usize = 32;

/// Each position looks at itself and those before it (Vaswani et al., arXiv 1706.03762), like
/// `torch.nn.MultiheadAttention(width, heads, batch_first=True)` of X, X and X with a causal mask and without dropout.
///
/// [Q K V] = X·Wᵢᵀ + bᵢ; of each head, which has its share of their columns, P = softmax(Q·Kᵀ / √(width / heads)), over
/// the positions up to the row's own, and A = P·V; Y = A·Wₒᵀ + bₒ.
///
/// X, Y, Q, K, V, A: (batch, positions, width), P: (batch, heads, positions, positions), Wᵢ: (3 · width, width), bᵢ: (3
/// · width), Wₒ: (width, width), bₒ: (width).
///
/// Both weights start as a linear layer's, and both biases at 0. PyTorch starts Wₒ and the biases so too, but Wᵢ from
/// Xavier's √1.5/√width instead of 1/√width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CausalSelfAttention {
    /// Into how many parts the width is divided, each with probabilities of its own.
    #[serde(deserialize_with = "whole")]
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
                "has more than {MAX_ELEMENTS} probabilities for a sample ({heads} heads · {positions} positions · \
                 {positions} positions); make the sequence shorter"
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
        // A width that cannot be tripled has a weight that nobody can count either, which `Sequential` refuses.
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

/// What the forward pass keeps, and what the backward pass overwrites with the gradients by it, but for P. Q, K, V and
/// A: (batch · positions, width), P: (batch, heads, positions, positions).
struct Kept<'a, S> {
    queries: ArrayViewMut2<'a, S>,
    keys: ArrayViewMut2<'a, S>,
    values: ArrayViewMut2<'a, S>,
    attended: ArrayViewMut2<'a, S>,
    probabilities: ArrayViewMut4<'a, S>,
}

impl CausalSelfAttentionLayer {
    /// How many numbers a sample has.
    fn elements(&self) -> usize {
        self.positions * self.width
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn scale<S: Scalar>(&self) -> S {
        S::from_f64(1.0 / (self.head_width() as f64).sqrt())
    }

    /// Each head of each sample.
    fn each_head(&self, batch: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let heads = self.heads;
        (0..batch).flat_map(move |sample| (0..heads).map(move |head| (sample, head)))
    }

    /// Positions, block by block.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let positions = self.positions;
        (0..positions)
            .step_by(BLOCK)
            .map(move |start| start..positions.min(start + BLOCK))
    }

    fn kept<'a, S>(&self, mut numbers: &'a mut [S], batch: usize) -> Kept<'a, S> {
        let (heads, positions) = (self.heads, self.positions);
        let shape = (batch * positions, self.width);
        Kept {
            queries: take_mut(&mut numbers, shape),
            keys: take_mut(&mut numbers, shape),
            values: take_mut(&mut numbers, shape),
            attended: take_mut(&mut numbers, shape),
            probabilities: take_mut(&mut numbers, (batch, heads, positions, positions)),
        }
    }

    /// Each head's share of the columns: (batch, heads, positions, head width).
    fn by_heads<R: RawData>(&self, rows: impl OnePiece<Line = ArrayBase<R, Ix1>>) -> ArrayBase<R, Ix4> {
        let rows = rows.line();
        let shape = [
            rows.len() / self.elements(),
            self.positions,
            self.heads,
            self.head_width(),
        ];
        shaped(rows, shape).permuted_axes([0, 2, 1, 3])
    }

    /// P and A of one head of a sample. Of P, blocks to the right of the diagonal are neither written nor ever read,
    /// and in the blocks on the diagonal it is zero to the right of it.
    fn attend<S: Scalar>(
        &self,
        [q, k, v]: [ArrayView2<'_, S>; 3],
        mut p: ArrayViewMut2<'_, S>,
        mut a: ArrayViewMut2<'_, S>,
        packing: &mut Packing<S>,
    ) {
        for rows in self.blocks() {
            let (block, seen) = (s![rows.clone(), ..], s![..rows.end, ..]);
            let mut p = p.slice_mut(s![rows.clone(), ..rows.end]);
            let k = k.slice(seen).reversed_axes();
            matmul(q.slice(block), k, p.view_mut(), Update::Overwrite, packing);
            for (row, mut p) in rows.zip(p.rows_mut()) {
                softmax(p.slice_mut(s![..=row]), self.scale());
                p.slice_mut(s![row + 1..]).fill(S::ZERO);
            }
            let a = a.slice_mut(block);
            matmul(p.view(), v.slice(seen), a, Update::Overwrite, packing);
        }
    }

    /// Of one head of a sample, puts dQ, dK and dV in the places of Q, K and V: dP = dA·Vᵀ, dV = Pᵀ·dA, and with the
    /// gradient by the scores, dS, dQ = dS·K, dK = dSᵀ·Q.
    fn attend_backward<S: Scalar>(
        &self,
        [mut q, mut k, mut v]: [ArrayViewMut2<'_, S>; 3],
        p: ArrayView2<'_, S>,
        da: ArrayView2<'_, S>,
        mut room: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let mut ds = take_mut(&mut room, (self.positions, self.positions));
        let mut dq = take_mut(&mut room, (self.positions, self.head_width()));
        for rows in self.blocks() {
            let (block, seen) = (s![rows.clone(), ..], s![..rows.end, ..]);
            let mut ds = ds.slice_mut(s![rows.clone(), ..rows.end]);
            let v = v.slice(seen).reversed_axes();
            matmul(da.slice(block), v, ds.view_mut(), Update::Overwrite, packing);
            for (row, mut ds) in rows.zip(ds.rows_mut()) {
                softmax::backward(p.slice(s![row, ..=row]), ds.slice_mut(s![..=row]), self.scale());
                ds.slice_mut(s![row + 1..]).fill(S::ZERO);
            }
            let dq = dq.slice_mut(block);
            matmul(ds.view(), k.slice(seen), dq, Update::Overwrite, packing);
        }
        // Every dP and dQ of the head has been computed: its V and K are needed no more.
        for columns in self.blocks() {
            let (block, seeing) = (s![columns.clone(), ..], s![columns.start.., ..]);
            let looks = s![columns.start.., columns];
            let p = p.slice(looks).reversed_axes();
            let dv = v.slice_mut(block);
            matmul(p, da.slice(seeing), dv, Update::Overwrite, packing);
            let ds = ds.slice(looks).reversed_axes();
            let dk = k.slice_mut(block);
            matmul(ds, q.slice(seeing), dk, Update::Overwrite, packing);
        }
        q.assign(&dq);
    }
}

impl<S: Scalar> Passes<S> for CausalSelfAttentionLayer {
    fn forward(
        &self,
        mut parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let (width, packing) = (self.width, memory.packing);
        let weights = take(&mut parameters, (3, width, width));
        let biases = take(&mut parameters, (3, width));
        let weight = take(&mut parameters, (width, width));
        let bias = take(&mut parameters, width);
        let (batch, x) = (input.len() / self.elements(), rows(input, width));
        let mut kept = self.kept(memory.numbers, batch);
        let projected = [&mut kept.queries, &mut kept.keys, &mut kept.values];
        for ((weight, bias), y) in weights.outer_iter().zip(biases.outer_iter()).zip(projected) {
            affine::forward(x, weight, bias, y.view_mut(), packing);
        }
        let [q, k, v] = [kept.queries.view(), kept.keys.view(), kept.values.view()].map(|rows| self.by_heads(rows));
        let mut a = self.by_heads(kept.attended.view_mut());
        let mut p = kept.probabilities;
        for (sample, head) in self.each_head(batch) {
            let head_of_sample = s![sample, head, .., ..];
            let projected = [
                q.slice(head_of_sample),
                k.slice(head_of_sample),
                v.slice(head_of_sample),
            ];
            self.attend(
                projected,
                p.slice_mut(head_of_sample),
                a.slice_mut(head_of_sample),
                packing,
            );
        }
        affine::forward(kept.attended.view(), weight, bias, rows(output, width), packing);
    }

    /// Through each projection as through a linear layer. The gradients by A, Q, K and V take the places of what they
    /// are by.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        mut parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let (width, packing, mut parameters) = (self.width, memory.packing, passed.parameters);
        let weights = take(&mut parameters, (3, width, width));
        parameters = &parameters[3 * width..];
        let weight = take(&mut parameters, (width, width));
        let mut dws = take_mut(&mut parameter_gradient, (3, width, width));
        let mut dbs = take_mut(&mut parameter_gradient, (3, width));
        let dw = take_mut(&mut parameter_gradient, (width, width));
        let db = take_mut(&mut parameter_gradient, width);
        let (batch, x) = (passed.input.len() / self.elements(), rows(passed.input, width));
        let dy = rows(passed.output_gradient, width);
        let mut kept = self.kept(memory.numbers, batch);

        affine::by_parameters(kept.attended.view(), dy, dw, db, packing);
        affine::by_input(weight, dy, kept.attended.view_mut(), Update::Overwrite, packing);

        let da = self.by_heads(kept.attended.view());
        let projected = [&mut kept.queries, &mut kept.keys, &mut kept.values];
        let [mut q, mut k, mut v] = projected.map(|rows| self.by_heads(rows.view_mut()));
        for (sample, head) in self.each_head(batch) {
            let head_of_sample = s![sample, head, .., ..];
            let projected = [
                q.slice_mut(head_of_sample),
                k.slice_mut(head_of_sample),
                v.slice_mut(head_of_sample),
            ];
            let (p, da) = (kept.probabilities.slice(head_of_sample), da.slice(head_of_sample));
            self.attend_backward(projected, p, da, memory.room, packing);
        }

        let projected = [kept.queries.view(), kept.keys.view(), kept.values.view()];
        let three = dws.outer_iter_mut().zip(dbs.outer_iter_mut());
        for (dy, (dw, db)) in projected.into_iter().zip(three) {
            affine::by_parameters(x, dy, dw, db, packing);
        }
        let Some(input_gradient) = input_gradient else { return };
        let mut dx = rows(input_gradient, width);
        let updates = [Update::Overwrite, Update::Add, Update::Add];
        for ((dy, weight), update) in projected.into_iter().zip(weights.outer_iter()).zip(updates) {
            affine::by_input(weight, dy, dx.view_mut(), update, packing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{Fitted, check, fit, forward, numbers};

    fn attention(heads: usize, positions: usize, width: usize) -> Fitted {
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
