//! Whether a model can be trained on data.

use super::Model;
use crate::data::sample_format::{ContentFormat, SampleFormat, TableTargets};
use crate::loss::{Answers, LossSpec};
use thiserror::Error;

/// Why a model can't be trained on data: what the model has, what the data has, and the mend.
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
        /// The other mend that there is for images.
        or_a_vector: String,
    },
    /// The model takes tokens and the data has none, or the other way round, or others.
    #[error("[dataset] has {found}, but the model takes {takes}; {mend}")]
    Tokens {
        /// What the data has.
        found: String,
        /// What the model takes.
        takes: String,
        /// In words.
        mend: String,
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
    #[error("the last layer gives {given} answers for a sample, but [dataset] has {expected}; {mend}")]
    Positions {
        /// What the model gives.
        given: usize,
        /// What the data has.
        expected: usize,
        /// In words.
        mend: &'static str,
    },
    /// Another loss is needed for such targets.
    #[error("loss = \"{loss}\" does not suit [dataset], whose targets are {targets}; set loss = \"{mend}\"")]
    Loss {
        /// The model's.
        loss: &'static str,
        /// What the data has.
        targets: &'static str,
        /// The loss for it.
        mend: &'static str,
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
                mend: needed.name(),
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
            let mend = match (self.answers, format.content.clone()) {
                (Answers::Classes { .. }, ContentFormat::Text { .. }) => "end with a linear layer at every position",
                (Answers::Classes { .. }, _) => "end with a flatten and a linear layer",
                _ => "set outputs to as many",
            };
            return Err(DataMisfit::Positions { given, expected, mend });
        }
        match (self.answers, format.classes()) {
            (Answers::Classes { classes: outputs, .. }, Some(classes)) if outputs != classes as usize => {
                let what = targets;
                Err(DataMisfit::Classes { outputs, classes, what })
            }
            _ => Ok(()),
        }
    }
}

impl Model {
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
            mend: match (has, takes) {
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

    #[test]
    fn a_model_and_data_that_do_not_fit_are_refused_with_both_sides() {
        let soft = LossSpec::SoftmaxCrossEntropy;
        let linear = |outputs| vec![LayerSpec::from(Linear::new(outputs))];
        let flat = |outputs| vec![Flatten {}.into(), Linear::new(outputs).into()];
        assert_eq!(misfit(&[1, 8, 8], &flat(10), soft, &[1, 8, 8], images()), "fits");
        assert_eq!(misfit(&[64], &linear(10), soft, &[1, 8, 8], images()), "fits");
        assert_eq!(
            misfit(&[1, 9, 9], &flat(10), soft, &[1, 8, 8], images()),
            "input = [1, 9, 9], but the samples of [dataset] have the shape [1, 8, 8]; set input = [1, 8, 8], or [64] \
             for a model that starts with a linear layer"
        );
        assert_eq!(
            misfit(&[64], &linear(9), soft, &[1, 8, 8], images()),
            "the last layer gives 9 outputs, but [dataset] has 10 classes; set outputs = 10"
        );
        let values = table(TableTargets::Values { count: 2 });
        // The loss comes first: what else does not fit may fit another one.
        for (inputs, outputs) in [(4, 2), (5, 2), (4, 7)] {
            assert!(misfit(&[inputs], &linear(outputs), soft, &[4], values.clone()).starts_with("loss = "));
        }
        assert_eq!(
            misfit(&[4], &linear(2), soft, &[4], values.clone()),
            "loss = \"softmax_cross_entropy\" does not suit [dataset], whose targets are numbers; set loss = \
             \"mean_squared_error\""
        );
        assert_eq!(
            misfit(&[4], &linear(2), LossSpec::MeanSquaredError, &[4], values.clone()),
            "fits"
        );
        assert_eq!(
            misfit(&[4], &linear(3), LossSpec::MeanSquaredError, &[4], values),
            "the last layer gives 3 answers for a sample, but [dataset] has 2; set outputs to as many"
        );
        let probabilities = table(TableTargets::Probabilities { count: 1 });
        assert_eq!(
            misfit(&[4], &linear(1), LossSpec::BinaryCrossEntropy, &[4], probabilities),
            "fits"
        );
        let class = table(TableTargets::Class { classes: 3 });
        assert_eq!(misfit(&[4], &linear(3), soft, &[4], class), "fits");
        let text = || ContentFormat::Text { tokens: 5 };
        let embedding = |tokens| LayerSpec::from(Embedding { tokens, width: 3 });
        let model = [embedding(5), Linear::new(5).into()];
        assert_eq!(misfit(&[4], &model, soft, &[4], text()), "fits");
        assert_eq!(
            misfit(&[4], &linear(5), soft, &[4], text()),
            "[dataset] has 5 different tokens, but the model takes numbers; begin with an embedding layer, tokens = 5"
        );
        assert_eq!(
            misfit(&[4], &[embedding(4), Linear::new(5).into()], soft, &[4], text()),
            "[dataset] has 5 different tokens, but the model takes 4 different tokens; set tokens = 5 in its \
             embedding layer"
        );
        assert_eq!(
            misfit(
                &[4],
                &[embedding(5), Flatten {}.into(), Linear::new(5).into()],
                soft,
                &[4],
                text()
            ),
            "the last layer gives 1 answers for a sample, but [dataset] has 4; end with a linear layer at every \
             position"
        );
        assert_eq!(
            misfit(&[4], &[embedding(5), Linear::new(7).into()], soft, &[4], text()),
            "the last layer gives 7 outputs, but [dataset] has 5 tokens; set outputs = 5"
        );
        let class = table(TableTargets::Class { classes: 3 });
        assert_eq!(
            misfit(
                &[4],
                &[embedding(5), Flatten {}.into(), Linear::new(3).into()],
                soft,
                &[4],
                class
            ),
            "[dataset] has numbers, but the model takes 5 different tokens; begin with another layer than embedding"
        );
    }
}
