//! What training makes small: the losses, one file each.
//!
//! The loss of a sample is the mean over its answers, as PyTorch's losses with `reduction = "mean"` of one sample; what
//! is summed up, here and in the BSP system, is the samples' losses and gradients.

mod binary_cross_entropy;
mod mean_squared_error;
mod softmax_cross_entropy;

use crate::data::minibatch::Targets;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{OnePiece, rows};
use crate::shape::shape_text;
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// What a run file calls the losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossSpec {
    /// Minus the logarithm of the probability given to the right class, as `torch.nn.CrossEntropyLoss`. The last layer
    /// gives a vector of classes, or one at each position of a sequence: then the right class is, say, the next token.
    #[default]
    SoftmaxCrossEntropy,
    /// The mean of the squared differences, as `torch.nn.MSELoss`.
    MeanSquaredError,
    /// Minus the logarithm of the probability given to yes or no, for each number of the last layer on its own, as
    /// `torch.nn.BCEWithLogitsLoss`. Targets are 0 and 1, or between.
    BinaryCrossEntropy,
}

/// What a model answers for one sample, as its loss takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One of `classes` classes, at each of `positions`.
    Classes {
        /// 1, or the positions of a sequence.
        positions: usize,
        /// How many it tells apart; 2 or more.
        classes: usize,
    },
    /// Numbers.
    Values {
        /// How many.
        count: usize,
    },
    /// Logits: each the logarithm of the odds of a yes.
    Logits {
        /// How many.
        count: usize,
    },
}

impl LossSpec {
    /// Its number in the description's hash; a part of the wire protocol.
    pub(crate) fn number(self) -> usize {
        match self {
            LossSpec::SoftmaxCrossEntropy => 1,
            LossSpec::MeanSquaredError => 2,
            LossSpec::BinaryCrossEntropy => 3,
        }
    }

    /// The name in the run file.
    pub fn name(self) -> &'static str {
        match self {
            LossSpec::SoftmaxCrossEntropy => "softmax_cross_entropy",
            LossSpec::MeanSquaredError => "mean_squared_error",
            LossSpec::BinaryCrossEntropy => "binary_cross_entropy",
        }
    }

    /// Fits the loss to what comes out of the last layer, called `from`, for one sample. An error says what comes out,
    /// what is needed, and the fix.
    pub(crate) fn fit(self, outgoing: &[usize], from: &str) -> Result<Answers, String> {
        match (self, outgoing) {
            (LossSpec::SoftmaxCrossEntropy, &[classes] | &[_, classes]) if classes < 2 => Err(format!(
                "the last layer ({from}) gives {classes} number, but {} needs one for each class; set outputs to the \
                 number of classes, or loss = \"mean_squared_error\" where the targets are numbers, or \
                 \"binary_cross_entropy\" where they are 0 or 1",
                self.name()
            )),
            (LossSpec::SoftmaxCrossEntropy, &[classes]) => Ok(Answers::Classes { positions: 1, classes }),
            (LossSpec::SoftmaxCrossEntropy, &[positions, classes]) => Ok(Answers::Classes { positions, classes }),
            (LossSpec::MeanSquaredError, &[count]) => Ok(Answers::Values { count }),
            (LossSpec::BinaryCrossEntropy, &[count]) => Ok(Answers::Logits { count }),
            _ => Err(format!(
                "the last layer ({from}) gives {}, but {} needs a vector{}; end with a flatten and a linear layer",
                shape_text(outgoing),
                self.name(),
                match self {
                    LossSpec::SoftmaxCrossEntropy => " of classes, or one at each position of a sequence",
                    _ => "",
                }
            )),
        }
    }
}

impl Answers {
    /// How many targets a sample has.
    pub fn targets(self) -> usize {
        match self {
            Answers::Classes { positions, .. } => positions,
            Answers::Values { count } | Answers::Logits { count } => count,
        }
    }

    /// Whether an answer is right or wrong, so that a model has an accuracy.
    pub fn has_accuracy(self) -> bool {
        !matches!(self, Answers::Values { .. })
    }

    /// Whether the loss can take these targets of `samples` samples.
    pub(crate) fn takes<S: Scalar>(self, targets: Targets<'_, S>, samples: usize) -> bool {
        match (self, targets) {
            (Answers::Classes { positions, classes }, Targets::Classes(targets)) => {
                targets.len() == samples * positions && targets.iter().all(|class| (*class as usize) < classes)
            }
            (Answers::Values { count } | Answers::Logits { count }, Targets::Values(targets)) => {
                targets.len() == samples * count
            }
            _ => false,
        }
    }

    /// Overwrites `gradient` with the loss's gradient by what the model gave, and returns the sum over the samples of
    /// their losses. Targets that it does not [take](Answers::takes) have no loss.
    pub(crate) fn backward<S: Scalar>(
        self,
        given: ArrayView4<'_, S>,
        targets: Targets<'_, S>,
        mut gradient: ArrayViewMut4<'_, S>,
    ) -> f64 {
        match (self, targets) {
            (Answers::Classes { positions, classes }, Targets::Classes(targets)) => {
                let (logits, by_logits) = (rows(given, classes), rows(gradient.view_mut(), classes));
                let sum = softmax_cross_entropy::backward(logits, targets, by_logits);
                self.share_out(positions, sum, gradient)
            }
            (Answers::Values { count }, Targets::Values(targets)) => {
                let sum = mean_squared_error::backward(given.line(), targets.into(), gradient.view_mut().line());
                self.share_out(count, sum, gradient)
            }
            (Answers::Logits { count }, Targets::Values(targets)) => {
                let sum = binary_cross_entropy::backward(given.line(), targets.into(), gradient.view_mut().line());
                self.share_out(count, sum, gradient)
            }
            _ => {
                gradient.line().fill(S::ZERO);
                0.0
            }
        }
    }

    /// The mean over a sample's answers instead of their sum.
    fn share_out<S: Scalar>(self, answers: usize, sum: f64, gradient: ArrayViewMut4<'_, S>) -> f64 {
        if answers > 1 {
            let share = S::from_f64(1.0 / answers as f64);
            gradient.line().map_inplace(|value| *value = *value * share);
        }
        sum / answers as f64
    }

    /// The sum over the samples of their losses, and of the shares of their answers that are right, where answers can
    /// be.
    pub(crate) fn evaluate<S: Scalar>(self, given: ArrayView4<'_, S>, targets: Targets<'_, S>) -> (f64, Option<f64>) {
        let (sum, right) = match (self, targets) {
            (Answers::Classes { classes, .. }, Targets::Classes(targets)) => {
                let (sum, right) = softmax_cross_entropy::evaluate(rows(given, classes), targets);
                (sum, Some(right))
            }
            (Answers::Values { .. }, Targets::Values(targets)) => {
                (mean_squared_error::evaluate(given.line(), targets.into()), None)
            }
            (Answers::Logits { .. }, Targets::Values(targets)) => {
                let (sum, right) = binary_cross_entropy::evaluate(given.line(), targets.into());
                (sum, Some(right))
            }
            _ => (0.0, None),
        };
        let answers = self.targets() as f64;
        (sum / answers, right.map(|right| right as f64 / answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tensor::{tensor, tensor_mut};
    use crate::layer::gradient_check::{central_differences, numbers};
    use crate::shape::of_batch;

    /// What a model gave for several samples, in its shape.
    fn samples(answers: Answers, given: &[f64]) -> ArrayView4<'_, f64> {
        let sample = match answers {
            Answers::Classes { positions: 1, classes } => vec![classes],
            Answers::Classes { positions, classes } => vec![positions, classes],
            Answers::Values { count } | Answers::Logits { count } => vec![count],
        };
        tensor(given, of_batch(given.len() / sample.iter().product::<usize>(), &sample))
    }

    fn check(answers: Answers, given: &[f64], targets: Targets<'_, f64>) {
        let mut gradient = vec![f64::NAN; given.len()];
        let evaluate = |given: &[f64]| answers.evaluate(samples(answers, given), targets).0;
        let by_given = tensor_mut(&mut gradient, samples(answers, given).raw_dim());
        let loss = answers.backward(samples(answers, given), targets, by_given);
        assert_eq!(loss, evaluate(given));
        central_differences(given, &gradient, evaluate);
    }

    #[test]
    fn every_gradient_is_the_central_differences() {
        let (classes, values) = ([0, 4, 2, 1, 3, 3], numbers(6, 40).map_in_unit());
        check(
            Answers::Classes {
                positions: 1,
                classes: 5,
            },
            &numbers(30, 3),
            Targets::Classes(&classes),
        );
        check(
            Answers::Classes {
                positions: 3,
                classes: 5,
            },
            &numbers(30, 3),
            Targets::Classes(&classes),
        );
        check(Answers::Values { count: 1 }, &numbers(6, 3), Targets::Values(&values));
        check(Answers::Values { count: 3 }, &numbers(6, 3), Targets::Values(&values));
        check(Answers::Logits { count: 1 }, &numbers(6, 3), Targets::Values(&values));
        check(Answers::Logits { count: 2 }, &numbers(6, 3), Targets::Values(&values));
    }

    trait InUnit {
        fn map_in_unit(self) -> Vec<f64>;
    }

    impl InUnit for Vec<f64> {
        /// Between 0 and 1 instead of −1 and 1.
        fn map_in_unit(self) -> Vec<f64> {
            self.into_iter().map(|x| (x + 1.0) / 2.0).collect()
        }
    }

    #[test]
    fn the_loss_of_a_sample_is_the_mean_over_its_answers() {
        let (given, classes) = (numbers(24, 9), [1, 0, 3, 2, 2, 1]);
        let each = Answers::Classes {
            positions: 1,
            classes: 4,
        };
        let (sum, right) = each.evaluate(samples(each, &given), Targets::Classes(&classes));
        let three = Answers::Classes {
            positions: 3,
            classes: 4,
        };
        let (mean, share) = three.evaluate(samples(three, &given), Targets::Classes(&classes));
        assert!((sum / 3.0 - mean).abs() < 1e-12);
        assert_eq!(right.map(|right| right / 3.0), share);
    }

    #[test]
    fn what_the_last_layer_gives_has_to_suit_the_loss() {
        let soft = LossSpec::SoftmaxCrossEntropy;
        assert_eq!(
            soft.fit(&[10], "linear"),
            Ok(Answers::Classes {
                positions: 1,
                classes: 10
            })
        );
        assert_eq!(
            soft.fit(&[7, 10], "linear"),
            Ok(Answers::Classes {
                positions: 7,
                classes: 10
            })
        );
        assert!(soft.fit(&[7, 1], "linear").unwrap_err().contains("one for each class"));
        assert_eq!(
            LossSpec::MeanSquaredError.fit(&[3, 4], "linear").unwrap_err(),
            "the last layer (linear) gives (3, 4), but mean_squared_error needs a vector; end with a flatten and a \
             linear layer"
        );
        assert_eq!(
            LossSpec::BinaryCrossEntropy.fit(&[1], "linear"),
            Ok(Answers::Logits { count: 1 })
        );
    }

    #[test]
    fn targets_of_another_kind_or_number_are_not_taken() {
        let answers = Answers::Classes {
            positions: 2,
            classes: 3,
        };
        assert!(answers.takes::<f32>(Targets::Classes(&[0, 1, 2, 2]), 2));
        assert!(!answers.takes::<f32>(Targets::Classes(&[0, 1, 2, 3]), 2));
        assert!(!answers.takes::<f32>(Targets::Classes(&[0, 1, 2]), 2));
        assert!(!answers.takes::<f32>(Targets::Values(&[0.0; 4]), 2));
        assert!(Answers::Values { count: 2 }.takes::<f32>(Targets::Values(&[0.0; 4]), 2));
    }
}
