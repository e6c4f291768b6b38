//! Tests of the run file: what it accepts, and that each mistake gets one clear line.

mod syntax;

use super::*;
use bsp::central::LearningRateScaling;
use bsp::protocol::codec::Codec;
use bsp::protocol::message::Mode;
use nn::data::sample_format::ContentFormat;
use nn::optimizer::schedule::ScheduleKind;
use nn::optimizer::{OptimizerSpec, SgdSpec};

const GOOD: &str = r#"name = "mine"
description = "Learns something."
seed = 7
target_accuracy = 0.9
[dataset]
kind = "digits"
[model]
input = [1, 8, 8]
[[model.layers]]
kind = "flatten"
[[model.layers]]
kind = "linear"
outputs = 10
[training]
minibatch = 8
[training.optimizer]
kind = "sgd"
momentum = 0.9
[training.schedule]
kind = "constant"
learning_rate = 0.1
[evaluation]
interval_seconds = 2
"#;

fn images(side: usize) -> SampleFormat {
    SampleFormat {
        shape: vec![1, side, side],
        content: ContentFormat::Bytes {
            scale: 1.0,
            shift: 0.0,
            classes: 10,
        },
    }
}

fn digits_format() -> SampleFormat {
    images(8)
}

fn parse(text: &str) -> Result<RunFile, RunFileError> {
    RunFile::parse(text, Path::new("runs/mine.toml"))
}

/// What is said of the good file with `from` replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good run file has no {from:?}");
    let message = parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
    assert!(
        message.starts_with("runs/mine.toml: ") && !message.contains('\n'),
        "{message}"
    );
    message["runs/mine.toml: ".len()..].to_owned()
}

#[test]
fn a_good_run_file_is_read_with_its_defaults() {
    let run = parse(GOOD).unwrap();
    assert_eq!(
        (run.name.as_str(), run.seed, run.target_accuracy),
        ("mine", 7, Some(0.9))
    );
    assert_eq!(run.evaluation.interval_seconds, 2.0);
    assert_eq!(run.path, Path::new("runs/mine.toml"));
    let training = run.training;
    assert_eq!(
        (training.mode, training.lr_scaling),
        (Mode::Decoupled, LearningRateScaling::None)
    );
    assert_eq!(
        (training.minibatch, training.superstep_samples, training.quorum),
        (8, 256, 0.75)
    );
    assert_eq!((training.min_period_ms, training.max_period_ms), (50, 10_000));
    assert_eq!(
        (training.max_staleness, training.staleness_exponent, training.clip),
        (64, 1.0, 3.0)
    );
    assert_eq!(
        (training.max_read_out_samples(), training.session_ttl_seconds),
        (4096, 600)
    );
    let sgd = SgdSpec {
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
    };
    assert_eq!(training.optimizer, OptimizerSpec::Sgd(sgd));
    assert_eq!(training.schedule.kind, ScheduleKind::Constant);
    assert_eq!(
        parse(&GOOD.replace("[evaluation]\ninterval_seconds = 2\n", ""))
            .unwrap()
            .evaluation
            .interval_seconds,
        5.0
    );
}

#[test]
fn the_runs_that_come_with_the_program_are_good() {
    let digits = RunFile::digits().unwrap();
    let dataset = crate::dataset::Dataset::load(&digits.dataset, digits.seed).unwrap();
    digits.model_for(&dataset.format).unwrap();
    let fashion = RunFile::load(Path::new("../runs/fashion-mnist.toml")).unwrap();
    let format = images(28);
    assert_eq!(fashion.model_for(&format).unwrap().inputs(), 784);
}

#[test]
fn paths_in_a_run_file_are_relative_to_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.toml");
    let idx =
        "kind = 'idx'\ntrain_images = 'a'\ntrain_labels = '../b'\ntest_images = '/c'\ntest_labels = 'd'\nclasses = 10";
    std::fs::write(&path, GOOD.replacen("kind = \"digits\"", idx, 1)).unwrap();
    let DatasetSpec::Idx(idx) = RunFile::load(&path).unwrap().dataset else {
        panic!("not idx")
    };
    assert_eq!(idx.train_images, directory.path().join("a"));
    assert_eq!(idx.train_labels, directory.path().join("../b"));
    assert_eq!(idx.test_images, Path::new("/c"));
    assert_eq!((idx.shard_samples, idx.mean, idx.std), (2000, 0.0, 1.0));
}

#[test]
fn a_missing_run_file_is_named() {
    let message = RunFile::load(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(
        message.starts_with("no/such.toml: can't be read: No such file or directory"),
        "{message}"
    );
}

#[test]
fn numbers_out_of_range_are_refused_with_what_they_may_be() {
    assert_eq!(
        refused("target_accuracy = 0.9", "target_accuracy = 90"),
        "target_accuracy = 90 is not allowed; set a number above 0, at most 1"
    );
    assert_eq!(
        refused("minibatch = 8", "minibatch = 0"),
        "[training] minibatch = 0 is not allowed; set a number from 1 to 4096"
    );
    assert_eq!(
        refused("minibatch = 8", "minibatch = 64\nsuperstep_samples = 32"),
        "[training] superstep_samples = 32 is not allowed; set a number from minibatch = 64 to 16777216"
    );
    assert_eq!(
        refused("momentum = 0.9", "momentum = 9"),
        "[training.optimizer] momentum = 9 is not allowed; set a number from 0 to below 1"
    );
    assert_eq!(
        refused("learning_rate = 0.1", "learning_rate = -0.1"),
        "[training.schedule] learning_rate = -0.1 is not allowed; set a number from 1e-12 to 1000000"
    );
    for (table, key, value) in [
        ("[training] ", "quorum", "0.0"),
        ("[training] ", "quorum", "nan"),
        ("[training] ", "min_period_ms", "0"),
        ("[training] ", "max_period_ms", "49"),
        ("[training] ", "max_staleness", "1025"),
        ("[training] ", "staleness_exponent", "-1"),
        ("[training] ", "clip", "0.5"),
        ("[training] ", "clip", "inf"),
        ("[training] ", "max_read_out_samples", "7"),
        ("[training] ", "session_ttl_seconds", "0"),
    ] {
        let message = refused("minibatch = 8", &format!("minibatch = 8\n{key} = {value}"));
        assert!(
            message.starts_with(&format!("{table}{key} = ")) && message.contains("; set "),
            "{message}"
        );
    }
    assert!(refused("interval_seconds = 2", "interval_seconds = 0").starts_with("[evaluation] interval_seconds = 0"));
    assert_eq!(
        refused("interval_seconds = 2", "samples = 0"),
        "[evaluation] samples = 0 is not allowed; set 1 or more"
    );
    assert!(refused("name = \"mine\"", "name = \"../mine\"").starts_with("name = \"../mine\" is not allowed"));
    assert!(refused("Learns something.", "").starts_with("description = \"\" is not allowed"));
    assert!(
        refused("kind = \"digits\"", "kind = \"digits\"\nshard_samples = 0").starts_with("[dataset] shard_samples = 0")
    );
    let idx = "kind = 'idx'\ntrain_images = 'a'\ntrain_labels = 'b'\ntest_images = 'c'\ntest_labels = 'd'\n";
    for (key, setting) in [
        ("classes", "classes = 1"),
        ("std", "classes = 10\nstd = 0"),
        ("mean", "classes = 10\nmean = 128"),
    ] {
        let message = refused("kind = \"digits\"", &format!("{idx}{setting}"));
        assert!(message.starts_with(&format!("[dataset] {key} = ")), "{message}");
    }
}

#[test]
fn settings_for_slow_links_are_read() {
    let codecs = "contribution_codec = \"int8\"\nmodel_codec = \"f16\"\ncommunication_share = 0.25";
    let steps = "[training.local_steps]\nlearning_rate = 0.05";
    let text = GOOD
        .replacen("minibatch = 8", &format!("minibatch = 8\n{codecs}"), 1)
        .replacen("[training.optimizer]", &format!("{steps}\n[training.optimizer]"), 1);
    let training = parse(&text).unwrap().training;
    assert_eq!(
        (training.contribution_codec, training.model_codec),
        (Codec::Int8, Codec::F16)
    );
    assert_eq!(training.communication_share, 0.25);
    let local_steps = training.local_steps.unwrap();
    assert_eq!(local_steps.learning_rate, 0.05);
    assert_eq!(local_steps.optimizer, OptimizerSpec::Sgd(SgdSpec::default()));

    let plain = parse(GOOD).unwrap().training;
    assert_eq!((plain.contribution_codec, plain.model_codec), (Codec::F32, Codec::F32));
    assert_eq!((plain.communication_share, plain.backup_workers), (0.5, 0));
    assert_eq!(plain.local_steps, None);
}

#[test]
fn settings_for_slow_links_that_make_no_sense_are_refused() {
    let in_training = |lines: &str| refused("minibatch = 8", &format!("{lines}\nminibatch = 8"));
    for mode in ["decoupled", "asynchronous"] {
        assert_eq!(
            in_training(&format!("mode = \"{mode}\"\nbackup_workers = 1")),
            "[training] backup_workers = 1 is not allowed; set 0, or mode = \"lockstep\" with it"
        );
    }
    for (value, shown) in [("0", "0"), ("2", "2"), ("-0.5", "-0.5"), ("nan", "NaN")] {
        assert_eq!(
            in_training(&format!("communication_share = {value}")),
            format!("[training] communication_share = {shown} is not allowed; set a number from 0.001 to 1")
        );
    }
    for key in ["contribution_codec", "model_codec"] {
        assert_eq!(
            in_training(&format!("{key} = \"int4\"")),
            "line 15: unknown variant `int4`, expected one of `f32`, `f16`, `int8`, `top_k`"
        );
    }
}

#[test]
fn local_steps_that_make_no_sense_are_refused() {
    let with_steps = |mode: &str, lines: &str| {
        let to = format!("mode = \"{mode}\"\n[training.local_steps]\n{lines}\n[training.optimizer]");
        refused("[training.optimizer]", &to)
    };
    for (value, shown) in [("0", "0"), ("-0.1", "-0.1"), ("nan", "NaN"), ("inf", "inf")] {
        assert_eq!(
            with_steps("decoupled", &format!("learning_rate = {value}")),
            format!(
                "[training.local_steps] learning_rate = {shown} is not allowed; set a number from 1e-12 to 1000000"
            )
        );
    }
    for mode in ["lockstep", "asynchronous"] {
        assert_eq!(
            with_steps(mode, "learning_rate = 0.1"),
            "[training.local_steps] is for mode = \"decoupled\"; leave one of them out"
        );
    }
    assert_eq!(
        with_steps("decoupled", "learning_rate = 0.1\ncount = 5"),
        "line 19: unknown field `count`, expected `learning_rate` or `optimizer`"
    );
    let inner = |lines: &str| with_steps("decoupled", &format!("learning_rate = 0.1\noptimizer = {{ {lines} }}"));
    assert_eq!(
        inner("kind = \"sgd\", momentum = 1"),
        "[training.local_steps] momentum = 1 is not allowed; set a number from 0 to below 1"
    );
    let message = inner("kind = \"lion\"");
    assert!(message.starts_with("line 19: unknown variant `lion`"), "{message}");
    let message = with_steps("decoupled", "");
    assert!(message.ends_with("missing field `learning_rate`"), "{message}");
}

#[test]
fn a_run_has_one_aim_that_its_model_can_reach() {
    assert_eq!(
        refused("target_accuracy = 0.9", "target_accuracy = 0.9\ntarget_loss = 0.1"),
        "target_accuracy and target_loss are both set; a run has one aim: leave one out"
    );
    assert_eq!(
        parse(&of_numbers("target_accuracy = 0.9")).unwrap_err().to_string(),
        "runs/mine.toml: target_accuracy is set, but numbers are not right or wrong; set target_loss instead"
    );
    assert_eq!(
        refused("target_accuracy = 0.9", "target_loss = 0"),
        "target_loss = 0 is not allowed; set a number above 0"
    );
    let goal = |line: &str| parse(&GOOD.replacen("target_accuracy = 0.9", line, 1)).unwrap().goal();
    assert_eq!(goal(""), None);
    assert_eq!(goal("target_loss = 0.3"), Some(Goal::Loss(0.3)));
    assert_eq!(goal("target_accuracy = 0.3"), Some(Goal::Accuracy(0.3)));
}

#[test]
fn settings_of_texts_and_tables_out_of_range_are_refused() {
    for (dataset, expected) in [
        (
            "kind = 'text'\nfile = 'a'\npositions = 0",
            "[dataset] positions = 0 is not allowed",
        ),
        (
            "kind = 'text'\nfile = 'a'\npositions = 9\nheld_out = 1",
            "[dataset] held_out = 1 is not allowed",
        ),
        (
            "kind = 'csv'\nfile = 'a'\ntargets = ['x']\nheld_out = 0",
            "[dataset] held_out = 0 is not allowed",
        ),
        (
            "kind = 'csv'\nfile = 'a'\ntargets = ['x']\ndelimiter = 'ä'",
            "[dataset] delimiter = 'ä' is not allowed",
        ),
    ] {
        let message = refused("kind = \"digits\"", dataset);
        assert!(message.starts_with(expected), "{message}");
    }
}

/// The good run on a table of numbers, with this aim.
fn of_numbers(aim: &str) -> String {
    let csv = "kind = \"csv\"\nfile = \"a\"\ntargets = [\"x\"]";
    GOOD.replacen("target_accuracy = 0.9", aim, 1)
        .replacen("kind = \"digits\"", csv, 1)
        .replacen("input = [1, 8, 8]", "input = [8]\nloss = \"mean_squared_error\"", 1)
        .replacen("outputs = 10", "outputs = 1", 1)
}

#[test]
fn a_loss_that_does_not_suit_the_data_is_named_before_the_outputs_that_do_not_suit_the_loss() {
    let run = of_numbers("");
    assert!(parse(&run).is_ok());
    let forgotten = run.replacen("loss = \"mean_squared_error\"", "", 1);
    assert_eq!(
        parse(&forgotten).unwrap_err().to_string(),
        "runs/mine.toml: [model] loss = \"softmax_cross_entropy\" does not suit [dataset], whose targets are \
         numbers; set loss = \"mean_squared_error\""
    );
    let chances = run.replacen("targets =", "target_kind = \"chances\"\ntargets =", 1);
    assert!(
        parse(&chances)
            .unwrap_err()
            .to_string()
            .ends_with("set loss = \"binary_cross_entropy\"")
    );
}

#[test]
fn a_setting_that_no_f32_holds_is_refused() {
    assert_eq!(
        refused("momentum = 0.9", "weight_decay = 1e39"),
        "[training.optimizer] weight_decay = 1e39 is not allowed; set a number from 0 to 1000000"
    );
    assert!(refused("learning_rate = 0.1", "learning_rate = 1e-46").contains("learning_rate = 1e-46 is not allowed"));
    assert_eq!(
        refused("learning_rate = 0.1", "learning_rate = 1e39"),
        "[training.schedule] learning_rate = 1e39 is not allowed; set a number from 1e-12 to 1000000"
    );
}

#[test]
fn a_codec_that_costs_accuracy_is_said() {
    let with = |codec: &str| parse(&GOOD.replacen("minibatch = 8", codec, 1)).unwrap().warnings();
    assert_eq!(
        with("model_codec = \"top_k\""),
        [
            "[training] model_codec = \"top_k\" costs accuracy: volunteers compute on models that lack most of the \
          last changes; for slow links set model_codec = \"int8\""
        ]
    );
    let silent: [&str; 0] = [];
    for codec in [
        "minibatch = 8",
        "contribution_codec = \"top_k\"",
        "model_codec = \"int8\"",
    ] {
        assert_eq!(with(codec), silent, "{codec}");
    }
}

#[test]
fn layers_that_do_not_fit_each_other_are_refused() {
    let message = refused("kind = \"linear\"", "kind = \"linear\"\ninputs = 63");
    assert!(
        message.starts_with("[model] layer 2 (linear): ") && message.contains("set inputs = 64"),
        "{message}"
    );
}

#[test]
fn a_model_that_does_not_fit_the_data_is_refused_with_both_sides() {
    let message = |from: &str, to: &str| {
        let run = parse(&GOOD.replacen(from, to, 1)).unwrap();
        run.model_for(&digits_format()).err().unwrap().to_string()
    };
    assert_eq!(
        message("input = [1, 8, 8]", "input = [1, 28, 28]"),
        "runs/mine.toml: [model] input = [1, 28, 28], but the samples of [dataset] have the shape [1, 8, 8]; set \
         input = [1, 8, 8], or [64] for a model that starts with a linear layer"
    );
    assert_eq!(
        message("outputs = 10", "outputs = 9"),
        "runs/mine.toml: [model] the last layer gives 9 outputs, but [dataset] has 10 classes; set outputs = 10"
    );
}

#[test]
fn a_model_of_vectors_takes_images_as_vectors() {
    let text =
        GOOD.replacen("input = [1, 8, 8]", "input = [64]", 1)
            .replacen("[[model.layers]]\nkind = \"flatten\"\n", "", 1);
    assert_eq!(parse(&text).unwrap().model_for(&digits_format()).unwrap().inputs(), 64);
}

#[test]
fn a_file_that_can_be_no_run_file_is_not_read_to_its_end() {
    let message = RunFile::load(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(
        message,
        "/dev/zero: is longer than 1048576 bytes, which no run file is; correct the path"
    );
}
