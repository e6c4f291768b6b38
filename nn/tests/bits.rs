//! The bits that every machine must give: what a browser computes is compared with the same numbers.

use nn::{Minibatch, Model, ModelSpec, Targets};

const MODEL: &str = r#"
    input = [1, 12, 10]
    [[layers]]
    kind = "conv2d"
    filters = 6
    kernel = [5, 3]
    padding = [2, 1]
    [[layers]]
    kind = "relu"
    [[layers]]
    kind = "max_pool2d"
    size = 2
    [[layers]]
    kind = "conv2d"
    filters = 9
    kernel = 3
    stride = [1, 2]
    padding = 1
    [[layers]]
    kind = "relu"
    [[layers]]
    kind = "flatten"
    [[layers]]
    kind = "linear"
    outputs = 21
    [[layers]]
    kind = "relu"
    [[layers]]
    kind = "linear"
    outputs = 10
"#;

const TRANSFORMER: &str = r#"
    input = [37]
    [[layers]]
    kind = "embedding"
    tokens = 23
    width = 12
    [[layers]]
    kind = "positional_embedding"
    [[layers]]
    kind = "residual"
    layers = [{ kind = "layer_norm" }, { kind = "causal_self_attention", heads = 3 }]
    [[layers]]
    kind = "residual"
    layers = [{ kind = "layer_norm" }, { kind = "linear", outputs = 24 }, { kind = "gelu" },
        { kind = "linear", outputs = 12 }]
    [[layers]]
    kind = "global_avg_pool"
    [[layers]]
    kind = "linear"
    outputs = 10
"#;

/// FNV-1a over the bytes of the numbers, little-endian.
fn hash(numbers: &[f32]) -> u64 {
    let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn a_seed_starts_from_the_same_bits_everywhere() {
    let spec: ModelSpec = toml::from_str(MODEL).unwrap();
    let model = Model::new(&spec).unwrap();
    let hashes = [0, 1, u64::MAX].map(|seed| hash(&model.initial_parameters(seed)));
    assert_eq!(
        hashes,
        [0x87b6_d455_30de_f579, 0x6b47_9d76_9dab_ad5a, 0x235f_e1ce_2a84_3597]
    );
}

#[test]
fn three_steps_of_training_end_in_the_same_bits_everywhere() {
    let byte = |index| (index % 256) as f32 / 255.0 - 0.5;
    let (losses, parameters) = three_steps(&Model::new(&toml::from_str(MODEL).unwrap()).unwrap(), byte);
    assert_eq!(
        losses,
        [0x4027_da60_9000_0000, 0x4027_5d5d_8800_0000, 0x4027_55a6_c000_0000]
    );
    assert_eq!(parameters, 0xac2b_51b9_cccc_5196);

    let token = |index| (index % 23) as f32;
    let (losses, parameters) = three_steps(&Model::new(&toml::from_str(TRANSFORMER).unwrap()).unwrap(), token);
    assert_eq!(
        losses,
        [0x4026_e234_b800_0000, 0x4027_9b09_1800_0000, 0x4027_401f_3000_0000]
    );
    assert_eq!(parameters, 0xd11c_3d3d_388c_d9e4);
}

/// The bits of the losses, and the hash of the parameters that training ends in.
fn three_steps(model: &Model, input: impl Fn(usize) -> f32) -> (Vec<u64>, u64) {
    let mut parameters = model.initial_parameters(7);
    let mut gradient = vec![0.0; parameters.len()];
    let mut scratch = model.scratch(5);
    let mut losses = Vec::new();
    for step in 0..3_usize {
        let inputs: Vec<f32> = (0..5 * model.inputs())
            .map(|index| input(index * 31 + step * 7))
            .collect();
        let labels = [0, 1, 2, 3, 9].map(|label| (label + step as u32) % 10);
        let batch = Minibatch {
            inputs: &inputs,
            targets: Targets::Classes(&labels),
            key: None,
        };
        let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut scratch);
        losses.push(outcome.loss_sum.to_bits());
        for (parameter, gradient) in parameters.iter_mut().zip(&gradient) {
            *parameter -= 0.125 * (*gradient / 5.0);
        }
    }
    (losses, hash(&parameters))
}
