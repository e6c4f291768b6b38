//! Whether a model can be trained on data.

use super::Model;
use crate::data::sample_format::{ContentFormat, SampleFormat, TableTargets};
use crate::loss::{Answers, LossSpec};
use thiserror::Error;

/// Why a model can't be trained on data: what the model has, what the data has, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DataMisfit {
    /// The model takes other inputs than the data has.
    #[error(
        "input = {input:?}, but the samples of [dataset] have the shape {shape:?}; set input = {shape:?}{or_a_vector}"
    )]
    InputShape {
        /// What the model takes.
        input: Vec<usize>,
        /// What the data has.
        shape: Vec<usize>,
        /// The other fix that there is for images.
        or_a_vector: String,
    },
    /// The model takes tokens and the data has none, or the other way round, or others.
    #[error("[dataset] has {found}, but the model takes {takes}; {fix}")]
    Tokens {
        /// What the data has.
        found: String,
        /// What the model takes.
        takes: String,
        /// In words.
        fix: String,
    },
    /// The model tells more or fewer classes apart than the data has.
    #[error("the last layer gives {outputs} outputs, but [dataset] has {classes} {what}; set outputs = {classes}")]
    Classes {
        /// What the model gives.
        outputs: usize,
        /// What the data has.
        classes: u32,
        /// Classes or tokens.
        what: &'static str,
    },
    /// The model answers more or fewer times than the data has answers to check it with.
    #[error("the last layer gives {given} answers for a sample, but [dataset] has {expected}; {fix}")]
    Positions {
        /// What the model gives.
        given: usize,
        /// What the data has.
        expected: usize,
        /// In words.
        fix: &'static str,
    },
    /// Another loss is needed for such targets.
    #[error("loss = \"{loss}\" does not suit [dataset], whose targets are {targets}; set loss = \"{fix}\"")]
    Loss {
        /// The model's.
        loss: &'static str,
        /// What the data has.
        targets: &'static str,
        /// The loss for it.
        fix: &'static str,
    },
}

impl Model {
    /// Whether it can be trained on data of this format: takes inputs of its shape, or images as vectors of as many
    /// elements, and answers what the data asks.
    pub fn check_data(&self, format: &SampleFormat) -> Result<(), DataMisfit> {
        let (needed, targets) = match format.content {
            ContentFormat::Text { .. } => (LossSpec::SoftmaxCrossEntropy, "tokens"),
            ContentFormat::Bytes { .. }
            | ContentFormat::Table {
                targets: TableTargets::Class { .. },
            } => (LossSpec::SoftmaxCrossEntropy, "classes"),
            ContentFormat::Table {
                targets: TableTargets::Values { .. },
            } => (LossSpec::MeanSquaredError, "numbers"),
            ContentFormat::Table {
                targets: TableTargets::Probabilities { .. },
            } => (LossSpec::BinaryCrossEntropy, "0 or 1"),
        };
        if self.spec.loss != needed {
            return Err(DataMisfit::Loss {
                loss: self.spec.loss.name(),
                targets,
                fix: needed.name(),
            });
        }
        let (input, shape) = (&self.spec.input, &format.shape);
        let is_image = shape.len() == 3;
        let is_vector_of_all = is_image && *input == [format.elements()];
        if input != shape && !is_vector_of_all {
            let or_a_vector = match is_image {
                true => format!(
                    ", or [{}] for a model that starts with a linear layer",
                    format.elements()
                ),
                false => String::new(),
            };
            return Err(DataMisfit::InputShape {
                input: input.clone(),
                shape: shape.clone(),
                or_a_vector,
            });
        }
        self.check_tokens(&format.content)?;
        let (given, expected) = (self.answers.targets(), format.targets());
        if given != expected {
            let fix = match (self.answers, format.content.clone()) {
                (Answers::Classes { .. }, ContentFormat::Text { .. }) => "end with a linear layer at every position",
                (Answers::Classes { .. }, _) => "end with a flatten and a linear layer",
                _ => "set outputs to as many",
            };
            return Err(DataMisfit::Positions { given, expected, fix });
        }
        match (self.answers, format.classes()) {
            (Answers::Classes { classes: outputs, .. }, Some(classes)) if outputs != classes as usize => {
                let what = targets;
                Err(DataMisfit::Classes { outputs, classes, what })
            }
            _ => Ok(()),
        }
    }

    fn check_tokens(&self, content: &ContentFormat) -> Result<(), DataMisfit> {
        let has = match *content {
            ContentFormat::Text { tokens } => Some(tokens as usize),
            ContentFormat::Bytes { .. } | ContentFormat::Table { .. } => None,
        };
        let takes = self.tokens();
        if has == takes {
            return Ok(());
        }
        let describe = |tokens: Option<usize>| match tokens {
            Some(tokens) => format!("{tokens} different tokens"),
            None => "numbers".to_owned(),
        };
        Err(DataMisfit::Tokens {
            found: describe(has),
            takes: describe(takes),
            fix: match (has, takes) {
                (Some(tokens), None) => format!("begin with an embedding layer, tokens = {tokens}"),
                (Some(tokens), Some(_)) => format!("set tokens = {tokens} in its embedding layer"),
                (None, _) => "begin with another layer than embedding".to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelSpec;
    use crate::layer::{Embedding, Flatten, LayerSpec, Linear};

    fn misfit(
        input: &[usize],
        layers: &[LayerSpec],
        loss: LossSpec,
        shape: &[usize],
        content: ContentFormat,
    ) -> String {
        let spec = ModelSpec {
            input: input.to_vec(),
            layers: layers.to_vec(),
            loss,
        };
        let format = SampleFormat {
            shape: shape.to_vec(),
            content,
        };
        match Model::new(&spec).unwrap().check_data(&format) {
            Ok(()) => "fits".into(),
            Err(misfit) => misfit.to_string(),
        }
    }

    fn images() -> ContentFormat {
        ContentFormat::Bytes {
            scale: 1.0,
            shift: 0.0,
            classes: 10,
        }
    }

    fn table(targets: TableTargets) -> ContentFormat {
        ContentFormat::Table { targets }
    }

    fn linear(outputs: usize) -> LayerSpec {
        Linear::new(outputs).into()
    }

    fn embedding(tokens: usize) -> LayerSpec {
        Embedding { tokens, width: 3 }.into()
    }

    fn flatten() -> LayerSpec {
        Flatten {}.into()
    }

    const SOFTMAX: LossSpec = LossSpec::SoftmaxCrossEntropy;
    const SQUARED: LossSpec = LossSpec::MeanSquaredError;
    const BINARY: LossSpec = LossSpec::BinaryCrossEntropy;

    #[test]
    fn images_fit_as_they_are_or_as_vectors_with_their_number_of_classes() {
        let misfit = |input: &[usize], layers: &[LayerSpec]| misfit(input, layers, SOFTMAX, &[1, 8, 8], images());
        assert_eq!(misfit(&[1, 8, 8], &[flatten(), linear(10)]), "fits");
        assert_eq!(misfit(&[64], &[linear(10)]), "fits");
        assert_eq!(
            misfit(&[1, 9, 9], &[flatten(), linear(10)]),
            "input = [1, 9, 9], but the samples of [dataset] have the shape [1, 8, 8]; set input = [1, 8, 8], or [64] \
             for a model that starts with a linear layer"
        );
        assert_eq!(
            misfit(&[64], &[linear(9)]),
            "the last layer gives 9 outputs, but [dataset] has 10 classes; set outputs = 10"
        );
    }

    #[test]
    fn a_table_fits_with_the_loss_for_its_targets_and_as_many_outputs() {
        let misfit = |layers: &[LayerSpec], loss, targets| misfit(&[4], layers, loss, &[4], table(targets));
        let values = TableTargets::Values { count: 2 };
        assert_eq!(
            misfit(&[linear(2)], SOFTMAX, values),
            "loss = \"softmax_cross_entropy\" does not suit [dataset], whose targets are numbers; set loss = \
             \"mean_squared_error\""
        );
        assert_eq!(misfit(&[linear(2)], SQUARED, values), "fits");
        assert_eq!(
            misfit(&[linear(3)], SQUARED, values),
            "the last layer gives 3 answers for a sample, but [dataset] has 2; set outputs to as many"
        );
        let probabilities = TableTargets::Probabilities { count: 1 };
        assert_eq!(misfit(&[linear(1)], BINARY, probabilities), "fits");
        assert_eq!(
            misfit(&[linear(3)], SOFTMAX, TableTargets::Class { classes: 3 }),
            "fits"
        );
    }

    #[test]
    fn a_loss_that_does_not_suit_is_named_before_anything_else() {
        // What else does not fit may fit with another loss.
        for (inputs, outputs) in [(4, 2), (5, 2), (4, 7)] {
            let values = table(TableTargets::Values { count: 2 });
            let misfit = misfit(&[inputs], &[linear(outputs)], SOFTMAX, &[4], values);
            assert!(misfit.starts_with("loss = "), "{misfit}");
        }
    }

    #[test]
    fn a_text_fits_with_its_tokens_and_an_answer_at_every_position() {
        let text = ContentFormat::Text { tokens: 5 };
        let misfit = |layers: &[LayerSpec]| misfit(&[4], layers, SOFTMAX, &[4], text.clone());
        assert_eq!(misfit(&[embedding(5), linear(5)]), "fits");
        assert_eq!(
            misfit(&[linear(5)]),
            "[dataset] has 5 different tokens, but the model takes numbers; begin with an embedding layer, tokens = 5"
        );
        assert_eq!(
            misfit(&[embedding(4), linear(5)]),
            "[dataset] has 5 different tokens, but the model takes 4 different tokens; set tokens = 5 in its \
             embedding layer"
        );
        assert_eq!(
            misfit(&[embedding(5), flatten(), linear(5)]),
            "the last layer gives 1 answers for a sample, but [dataset] has 4; end with a linear layer at every \
             position"
        );
        assert_eq!(
            misfit(&[embedding(5), linear(7)]),
            "the last layer gives 7 outputs, but [dataset] has 5 tokens; set outputs = 5"
        );
    }

    #[test]
    fn numbers_do_not_fit_a_model_that_takes_tokens() {
        let class = table(TableTargets::Class { classes: 3 });
        assert_eq!(
            misfit(&[4], &[embedding(5), flatten(), linear(3)], SOFTMAX, &[4], class),
            "[dataset] has numbers, but the model takes 5 different tokens; begin with another layer than embedding"
        );
    }
}
