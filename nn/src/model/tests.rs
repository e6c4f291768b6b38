use super::*;
use crate::layer::gradient_check::{central_differences, numbers};
use crate::layer::{Conv2d, Embedding, Flatten, LayerSpec, Linear, MaxPool2d, Relu};

fn linear(outputs: usize) -> LayerSpec {
    Linear::new(outputs).into()
}

fn conv(filters: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    let (stride, padding) = (stride.into(), padding.into());
    Conv2d {
        stride,
        padding,
        ..Conv2d::new(filters, kernel)
    }
    .into()
}

fn pool(size: usize) -> LayerSpec {
    MaxPool2d::new(size).into()
}

fn flatten() -> LayerSpec {
    Flatten {}.into()
}

fn relu() -> LayerSpec {
    Relu {}.into()
}

fn spec(input: &[usize], layers: &[LayerSpec]) -> ModelSpec {
    ModelSpec {
        input: input.to_vec(),
        layers: layers.to_vec(),
        loss: Default::default(),
    }
}

fn error(input: &[usize], layers: &[LayerSpec]) -> String {
    Model::new(&spec(input, layers)).unwrap_err().to_string()
}

fn small_cnn() -> Model {
    let layers = [
        relu(),
        conv(3, 3, 1, 1),
        relu(),
        pool(2),
        conv(2, 2, 1, 0),
        flatten(),
        linear(5),
        relu(),
        linear(3),
    ];
    Model::new(&spec(&[2, 6, 5], &layers)).unwrap()
}

#[test]
fn parameters_are_named_and_shaped_as_pytorchs() {
    let model = small_cnn();
    let tensors: Vec<_> = model
        .parameters()
        .iter()
        .map(|p| (p.name.as_str(), p.shape.clone()))
        .collect();
    assert_eq!(
        tensors,
        [
            ("1.weight", vec![3, 2, 3, 3]),
            ("1.bias", vec![3]),
            ("4.weight", vec![2, 3, 2, 2]),
            ("4.bias", vec![2]),
            ("6.weight", vec![5, 4]),
            ("6.bias", vec![5]),
            ("8.weight", vec![3, 5]),
            ("8.bias", vec![3]),
        ]
    );
    let mut end = 0;
    for parameter in model.parameters() {
        assert_eq!(parameter.range.start, end);
        assert_eq!(Some(parameter.range.len()), count(&parameter.shape));
        end = parameter.range.end;
    }
    assert_eq!(
        (model.parameter_count(), model.inputs(), model.answers()),
        (
            end,
            60,
            Answers::Classes {
                positions: 1,
                classes: 3
            }
        )
    );
}

#[test]
fn a_view_shows_its_tensor_and_never_reads_beyond_a_short_vector() {
    let model = small_cnn();
    let vector: Vec<f32> = (0..model.parameter_count()).map(|index| index as f32).collect();
    let weight = &model.parameters()[2];
    let view = model.view(weight, &vector).unwrap();
    assert_eq!(view.shape(), [2, 3, 2, 2]);
    assert_eq!(view[[1, 2, 0, 1]], (weight.range.start + 21) as f32);
    assert_eq!(model.view(weight, &vector[..weight.range.end - 1]), None);
}

#[test]
fn a_whole_models_gradient_is_the_central_differences() {
    let model = small_cnn();
    let (batch, labels) = (3, [2, 0, 1]);
    let parameters = numbers(model.parameter_count(), 11);
    let inputs = numbers(batch * model.inputs(), 1234);
    let mut scratch = Scratch::<f64>::new(model.layers.needs(), batch);
    let mut gradient = vec![f64::NAN; parameters.len()];
    model.gradient_of(
        &parameters,
        &inputs,
        Targets::Classes(&labels),
        None,
        &mut gradient,
        &mut scratch,
    );
    let scratch = std::cell::RefCell::new(scratch);
    central_differences(&parameters, &gradient, |parameters| {
        let mut unused = vec![0.0; parameters.len()];
        model.gradient_of(
            parameters,
            &inputs,
            Targets::Classes(&labels),
            None,
            &mut unused,
            &mut scratch.borrow_mut(),
        )
    });
}

#[test]
fn what_a_scratch_held_before_never_shows() {
    let model = small_cnn();
    let parameters = model.initial_parameters(1);
    let inputs: Vec<f32> = numbers(2 * model.inputs(), 5).iter().map(|x| *x as f32).collect();
    let batch = Minibatch {
        inputs: &inputs,
        targets: Targets::Classes(&[1, 2]),
        key: None,
    };
    let gradient_in = |scratch: &mut Scratch| {
        let mut gradient = vec![f32::NAN; parameters.len()];
        let outcome = model.gradient(&parameters, &batch, &mut gradient, scratch);
        (
            outcome.loss_sum.to_bits(),
            gradient.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        )
    };
    let mut used = model.scratch(7);
    used.numbers.fill(f32::NAN);
    used.room.fill(f32::NAN);
    used.indices.fill(u32::MAX);
    assert_eq!(gradient_in(&mut model.scratch(2)), gradient_in(&mut used));
    assert_eq!(gradient_in(&mut model.scratch(2)), gradient_in(&mut used));
}

#[test]
fn a_gradient_is_the_sum_of_its_samples_gradients() {
    let model = small_cnn();
    let parameters = numbers(model.parameter_count(), 3);
    let (inputs, labels) = (numbers(4 * model.inputs(), 9), [0, 1, 2, 0]);
    let mut scratch = Scratch::<f64>::new(model.layers.needs(), 4);
    let (mut whole, mut one) = (vec![0.0; parameters.len()], vec![0.0; parameters.len()]);
    let loss = model.gradient_of(
        &parameters,
        &inputs,
        Targets::Classes(&labels),
        None,
        &mut whole,
        &mut scratch,
    );
    let (mut sums, mut losses) = (vec![0.0; parameters.len()], 0.0);
    for (x, label) in inputs.chunks_exact(model.inputs()).zip(labels) {
        losses += model.gradient_of(&parameters, x, Targets::Classes(&[label]), None, &mut one, &mut scratch);
        crate::kernel::sums::add(&mut sums, &one);
    }
    assert!((loss - losses).abs() < 1e-12);
    assert!(whole.iter().zip(&sums).all(|(whole, sum)| (whole - sum).abs() < 1e-12));
}

#[test]
fn an_empty_minibatch_has_a_gradient_of_zeros() {
    let model = small_cnn();
    let mut gradient = vec![f32::NAN; model.parameter_count()];
    let batch = Minibatch {
        inputs: &[],
        targets: Targets::Classes(&[]),
        key: None,
    };
    let parameters = model.initial_parameters(1);
    let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut model.scratch(0));
    assert_eq!(
        outcome,
        Outcome {
            samples: 0,
            loss_sum: 0.0
        }
    );
    assert!(gradient.iter().all(|x| *x == 0.0));
    let evaluation = model.evaluate(&parameters, &batch, &mut model.evaluation_scratch(1));
    assert_eq!(
        evaluation,
        Evaluation {
            samples: 0,
            loss_sum: 0.0,
            correct: Some(0.0)
        }
    );
}

#[test]
fn a_parameter_that_is_not_a_number_is_seen_in_the_gradient() {
    let model = small_cnn();
    let inputs = vec![0.5; model.inputs()];
    let mut gradient = vec![0.0; model.parameter_count()];
    let mut parameters = model.initial_parameters(1);
    parameters[0] = f32::NAN;
    let batch = Minibatch {
        inputs: &inputs,
        targets: Targets::Classes(&[0]),
        key: None,
    };
    let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut model.scratch(1));
    assert!(outcome.loss_sum.is_nan() && gradient.iter().any(|x| x.is_nan()));
}

#[test]
#[should_panic(expected = "the targets are not those of Classes")]
fn a_label_beyond_the_classes_is_refused() {
    let model = small_cnn();
    let batch = Minibatch {
        inputs: &vec![0.0; model.inputs()],
        targets: Targets::Classes(&[3]),
        key: None,
    };
    model.evaluate(&model.initial_parameters(1), &batch, &mut model.evaluation_scratch(1));
}

fn token_model() -> Model {
    let embedding = Embedding { tokens: 5, width: 4 }.into();
    Model::new(&spec(&[3], &[embedding, flatten(), linear(2)])).unwrap()
}

#[test]
fn a_model_that_begins_with_an_embedding_says_how_many_tokens_there_are() {
    assert_eq!((token_model().tokens(), small_cnn().tokens()), (Some(5), None));
    let embedding: LayerSpec = Embedding { tokens: 5, width: 4 }.into();
    assert_eq!(
        error(&[3], &[relu(), embedding, flatten(), linear(2)]),
        "layer 2 (embedding): takes tokens, which only a model's input gives; make it the model's first layer, not in \
         a residual one"
    );
}

#[test]
fn an_input_that_is_no_token_is_refused() {
    let model = token_model();
    let parameters = model.initial_parameters(1);
    let evaluate = |token: f32| {
        let batch = Minibatch {
            inputs: &[0.0, token, 4.0],
            targets: Targets::Classes(&[1]),
            key: None,
        };
        model
            .evaluate(&parameters, &batch, &mut model.evaluation_scratch(1))
            .loss_sum
    };
    assert!(evaluate(3.0).is_finite() && evaluate(-0.0).is_finite());
    for token in [5.0, -1.0, 0.5, f32::NAN, f32::INFINITY] {
        let refused = std::panic::catch_unwind(|| evaluate(token)).unwrap_err();
        let message = refused.downcast_ref::<String>().unwrap();
        assert_eq!(message, "a token is a whole number from 0 to below 5");
    }
}

#[test]
fn scratch_bytes_are_what_a_scratch_holds() {
    let model = small_cnn();
    let scratch = model.scratch(5);
    let held = 4 * (scratch.numbers.len() + scratch.indices.len() + scratch.room.len());
    let held = held + crate::kernel::Packing::<f32>::BYTES;
    assert_eq!(model.scratch_bytes(5), held);
    assert_eq!(model.scratch_bytes(usize::MAX), usize::MAX);
}

#[test]
fn layers_that_do_not_fit_say_where_and_how_to_mend() {
    let inputs = Some(512);
    let wrong = Linear {
        inputs,
        ..Linear::new(10)
    }
    .into();
    assert_eq!(
        error(&[1, 20, 20], &[flatten(), wrong]),
        "layer 2 (linear): expects 512 inputs, but flatten gives 400; set inputs = 400"
    );
    assert_eq!(
        error(&[1, 28, 28], &[pool(4), linear(10)]),
        "layer 2 (linear): expects a vector or a sequence (positions, width), but max_pool2d gives (1, 7, 7); put a \
         flatten layer before it"
    );
    let channels = Some(1);
    let channels = Conv2d {
        channels,
        ..Conv2d::new(4, 3)
    }
    .into();
    assert_eq!(
        error(&[3, 8, 8], &[channels]),
        "layer 1 (conv2d): expects 1 channels, but the model's input gives 3; set channels = 3"
    );
    assert_eq!(
        error(&[1, 4, 6], &[conv(1, 7, 1, 1)]),
        "layer 1 (conv2d): has kernel = 7, but what comes in measures 4, 6 with its padding; set kernel to 6 or less"
    );
    assert_eq!(
        error(&[1, 4, 6], &[relu(), pool(5)]),
        "layer 2 (max_pool2d): has size = 5, but what comes in measures 4; set size to 4 or less"
    );
    assert!(error(&[784], &[conv(1, 3, 1, 0)]).starts_with(
        "layer 1 (conv2d): expects an image (channels, height, width), but the model's input gives 784; put it before"
    ));
    assert!(error(&[784], &[linear(4), pool(2)]).contains("layer 2 (max_pool2d): expects an image"));
}

#[test]
fn a_size_of_zero_is_refused_wherever_it_stands() {
    let stride = Some([1, 0].into());
    let stride_0 = MaxPool2d {
        stride,
        ..MaxPool2d::new(2)
    }
    .into();
    for (layer, name) in [
        (linear(0), "outputs"),
        (conv(0, 3, 1, 0), "filters"),
        (conv(1, 0, 1, 0), "kernel"),
        (conv(1, 3, 0, 0), "stride"),
        (pool(0), "size"),
        (stride_0, "stride"),
    ] {
        let input: &[usize] = if layer.kind() == "linear" { &[8] } else { &[1, 8, 8] };
        let message = error(input, &[layer]);
        assert!(
            message.starts_with("layer 1 (") && message.contains(&format!("set {name} to 1")),
            "{message}"
        );
    }
    for input in [&[0][..], &[1, 0, 3]] {
        assert!(error(input, &[flatten(), linear(2)]).contains("size of 0"));
    }
}

#[test]
fn a_model_that_is_too_large_is_refused_before_anything_is_allocated() {
    let huge = usize::MAX / 2;
    for (input, layers) in [
        (vec![huge, huge, huge], vec![flatten(), linear(2)]),
        (vec![MAX_ELEMENTS + 1], vec![linear(2)]),
        (vec![8], vec![linear(huge), linear(2)]),
        (vec![1 << 14], vec![linear(1 << 13), linear(2)]),
        (vec![1, 8, 8], vec![conv(huge, 3, 1, 0)]),
        // As many filters as let their weights' count begin at 0 again.
        (vec![2, 8, 8], vec![conv(huge + 1, 1, 1, 0)]),
        (vec![1, 8, 8], vec![conv(1, 3, 1, huge)]),
        (vec![1, 8, 8], vec![conv(1, 3, 1, usize::MAX)]),
        (vec![1, 8, 8], vec![conv(1, 1, 1, 1 << 13)]),
        (vec![1, 2048, 2048], vec![conv(1, 11, 1, 5)]),
    ] {
        let message = error(&input, &layers);
        let says_so = [
            "more than 67108864 numbers",
            "above 67108864 parameters",
            "cannot be counted",
            "makes the image too large",
        ];
        assert!(says_so.iter().any(|words| message.contains(words)), "{message}");
    }
}

#[test]
fn a_model_must_end_in_classes_and_have_something_to_train() {
    assert!(error(&[8], &[]).contains("no layers"));
    assert!(error(&[8], &[relu()]).contains("nothing to train"));
    assert!(error(&[8], &[linear(1)]).contains("where the targets are numbers"));
    assert!(error(&[1, 8, 8], &[conv(2, 3, 1, 0)]).contains("last layer (conv2d) gives (2, 6, 6)"));
    assert!(error(&[8, 8], &[linear(2)]).contains("[features] or [channels, height, width]"));
    assert!(error(&[8], &vec![relu(); MAX_LAYERS + 1]).contains("1025 layers"));
}
