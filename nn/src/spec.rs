//! What a run file says of a model: its input, its layers, its loss.

use crate::fnv1a::Fnv1a;
use crate::layer::LayerSpec;
use crate::loss::LossSpec;
use crate::whole::wholes;
use serde::{Deserialize, Serialize};

/// A model's description. Together with a vector of parameters it *is* the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// The shape of one sample: `[features]`, `[channels, height, width]`, or `[positions]` of a text.
    #[serde(deserialize_with = "wholes")]
    pub input: Vec<usize>,
    /// The layers, from the input to the classes.
    pub layers: Vec<LayerSpec>,
    /// What training makes small.
    #[serde(default)]
    pub loss: LossSpec,
}

impl ModelSpec {
    /// A number that two descriptions share if they mean the same model. It is part of the wire protocol: a volunteer
    /// that computes another model is known by it.
    ///
    /// FNV-1a over the description in 64-bit little-endian words: the input's rank and sizes, the number of layers,
    /// for each layer its kind's number and sizes, the loss's number. `inputs` and `channels` only check and are left
    /// out; a pool's stride is written out when it was not given.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv1a::new();
        hash.word(self.input.len());
        self.input.iter().for_each(|size| hash.word(*size));
        hash.word(self.layers.len());
        self.layers.iter().for_each(|layer| layer.hash(&mut hash));
        hash.word(self.loss.number());
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Conv2d, Flatten, Linear, MaxPool2d, Relu};

    fn layer(text: &str) -> Result<LayerSpec, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    const CNN: &str = r#"
        input = [1, 28, 28]
        [[layers]]
        kind = "conv2d"
        filters = 16
        kernel = 5
        padding = [2, 1]
        [[layers]]
        kind = "relu"
        [[layers]]
        kind = "max_pool2d"
        size = 2
        [[layers]]
        kind = "flatten"
        [[layers]]
        kind = "linear"
        outputs = 10
    "#;

    fn cnn() -> ModelSpec {
        toml::from_str(CNN).unwrap()
    }

    #[test]
    fn a_run_files_layers_are_read_with_their_defaults() {
        let conv = Conv2d {
            padding: [2, 1].into(),
            ..Conv2d::new(16, 5)
        };
        let layers = vec![
            conv.into(),
            Relu {}.into(),
            MaxPool2d::new(2).into(),
            Flatten {}.into(),
            Linear::new(10).into(),
        ];
        assert_eq!(
            cnn(),
            ModelSpec {
                input: vec![1, 28, 28],
                layers,
                loss: LossSpec::SoftmaxCrossEntropy,
            }
        );
    }

    #[test]
    fn a_description_survives_toml_and_json() {
        let spec = cnn();
        assert_eq!(
            toml::from_str::<ModelSpec>(&toml::to_string(&spec).unwrap()).unwrap(),
            spec
        );
        assert_eq!(
            serde_json::from_str::<ModelSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(),
            spec
        );
    }

    #[test]
    fn an_unknown_key_is_refused_for_every_kind() {
        for (keys, kind) in [
            ("outputs = 3", "linear"),
            ("filters = 3\nkernel = 2", "conv2d"),
            ("size = 2", "max_pool2d"),
            ("", "flatten"),
            ("", "relu"),
            ("tokens = 65\nwidth = 8", "embedding"),
            ("", "positional_embedding"),
            ("heads = 4", "causal_self_attention"),
            ("size = [2, 4]", "patchify"),
        ] {
            let good = format!("kind = \"{kind}\"\n{keys}\n");
            assert_eq!(layer(&good).unwrap().kind(), kind);
            let error = layer(&format!("{good}slope = 1\n")).unwrap_err();
            assert!(error.contains("unknown field `slope`"), "{kind}: {error}");
        }
        let error = toml::from_str::<ModelSpec>(&format!("seed = 1\n{CNN}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `seed`"), "{error}");
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let error = layer("kind = \"lstm\"").unwrap_err();
        assert!(
            error.contains("unknown variant `lstm`") && error.contains("`max_pool2d`"),
            "{error}"
        );
    }

    #[test]
    fn an_extent_is_one_integer_or_a_pair() {
        let kernel = |text: &str| layer(&format!("kind = \"max_pool2d\"\nsize = {text}"));
        assert_eq!(kernel("3").unwrap(), MaxPool2d::new(3).into());
        assert_eq!(kernel("[3, 4]").unwrap(), MaxPool2d::new([3, 4]).into());
        for bad in ["-1", "[3]", "[3, 4, 5]", "2.5", "\"3\"", "[3, -4]"] {
            let error = kernel(bad).unwrap_err();
            let is_plain = error.contains("height, width") || error.contains("a whole number");
            assert!(is_plain && !error.contains("usize"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_in_the_readers_words() {
        for (kind, key) in [
            ("linear", "outputs"),
            ("conv2d", "filters"),
            ("embedding", "tokens"),
            ("group_norm", "groups"),
            ("causal_self_attention", "heads"),
        ] {
            for value in ["[12, 7]", "\"12\"", "-1", "2.5"] {
                let error = layer(&format!("kind = \"{kind}\"\n{key} = {value}")).unwrap_err();
                assert!(error.contains("expected a whole number, 0 or more"), "{error}");
            }
        }
        let error = toml::from_str::<ModelSpec>("input = [12.5]\nlayers = []")
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected a whole number"), "{error}");
    }

    #[test]
    fn the_hash_is_the_one_that_volunteers_send() {
        // A change here is a change of the wire protocol.
        assert_eq!(cnn().hash(), 0x1736_40bd_60da_c39a);
    }

    #[test]
    fn only_what_changes_the_model_changes_its_hash() {
        let hash = cnn().hash();
        let mut same = cnn();
        let stride = Some(2.into());
        same.layers[2] = MaxPool2d {
            stride,
            ..MaxPool2d::new(2)
        }
        .into();
        let inputs = Some(2912);
        same.layers[4] = Linear {
            inputs,
            ..Linear::new(10)
        }
        .into();
        assert_eq!(same.hash(), hash);
        let changes: [fn(&mut ModelSpec); 6] = [
            |spec| spec.input[2] = 27,
            |spec| spec.layers.swap(0, 1),
            |spec| spec.layers[1] = Flatten {}.into(),
            |spec| {
                let stride = Some(1.into());
                spec.layers[2] = MaxPool2d {
                    stride,
                    ..MaxPool2d::new(2)
                }
                .into();
            },
            |spec| spec.layers[4] = Linear::new(11).into(),
            |spec| spec.layers.truncate(4),
        ];
        for change in changes {
            let mut other = cnn();
            change(&mut other);
            assert_ne!(other.hash(), hash, "{other:?}");
        }
    }
}
