//! The rows. Their order is that of `runs/README.md`.

use nn::data::shard::MAX_CLASSES;

use super::DefaultValue::{Follows, Is, Required};
use super::Key;
use super::Range::{Above, Any, AtLeast, Below, Between, NoneOr, Number, Whole};

/// The largest learning rate: with a larger one a step of any optimizer here leaves what `f32` holds within a few
/// versions.
const MAX_LEARNING_RATE: f64 = 1e6;
/// The smallest: with a smaller one no parameter of `f32` changes.
const MIN_LEARNING_RATE: f64 = 1e-12;
/// The largest decay and the largest epsilon: either leaves nothing of a step.
const MAX_SETTING: f64 = 1e6;
/// The rows of each table's header and kinds.
macro_rules! keys {
    ($($table:literal $kinds:tt { $($name:literal $default:expr, $range:expr, $meaning:literal;)* })*) => {
        &[$($(Key {
            table: $table,
            kinds: &$kinds,
            name: $name,
            default: $default,
            range: $range,
            meaning: $meaning,
        },)*)*]
    };
}

/// Every key of a run file.
pub const KEYS: &[Key] = keys! {
    "" [] {
        "name" Required, Any,
            "1 to 64 letters, digits, `-` and `_`; for file names, logs and pages";
        "description" Required, Any,
            "one sentence, of at most 500 characters, that tells volunteers what their machines work on";
        "seed" Required, Any,
            "everything random follows from it: first parameters, shards, minibatches";
        "target_accuracy" Follows("none"), Above(0.0, 1.0),
            "share of right answers on held-out samples at which the run has reached its aim";
        "target_loss" Follows("none"), Above(0.0, f64::INFINITY),
            "or the mean loss of held-out samples; a run has one aim, or none";
    }
    "[dataset]" [] {
        "kind" Required, Any,
            "`\"digits\"` (embedded), `\"idx\"` (the format of MNIST), `\"text\"` or `\"csv\"`; files may be gzipped";
    }
    "[dataset]" ["digits"] {
        "shard_samples" Is("1500"), AtLeast(1),
            "about how many samples volunteers fetch at once; a shard has at most 64 MiB";
    }
    "[dataset]" ["idx"] {
        "train_images" Required, Any,
            "a file, relative to the run file: bytes in 2 to 4 dimensions, to train on";
        "train_labels" Required, Any,
            "their labels: bytes in one dimension";
        "test_images" Required, Any,
            "the same to evaluate on";
        "test_labels" Required, Any,
            "their labels";
        "classes" Required, Whole(2, MAX_CLASSES as u64),
            "labels are below it";
        "shard_samples" Is("2000"), AtLeast(1),
            "about how many samples volunteers fetch at once; a shard has at most 64 MiB";
        "mean" Is("0"), Number(0.0, 1.0),
            "input = (byte / 255 − `mean`) / `std`";
        "std" Is("1"), Number(0.001, 1.0),
            "see `mean`; below a thousandth, inputs would be in the hundreds of thousands";
    }
    "[dataset]" ["text"] {
        "file" Required, Any,
            "a text in UTF-8, relative to the run file, with 2 to 256 different characters; each is a token, in the \
             order of their code points";
        "positions" Required, AtLeast(1),
            "how many characters a sample has; the model answers the character after each of them";
        "held_out" Is("0.1"), Between(0.0, 1.0),
            "share of the text, its end, to evaluate on";
        "shard_samples" Is("50000"), AtLeast(1),
            "about how many samples volunteers fetch at once; a shard has at most 64 MiB";
    }
    "[dataset]" ["csv"] {
        "file" Required, Any,
            "a table in UTF-8, relative to the run file, with the columns' names in its first line and no holes: a \
             cell is a hole if it is empty or holds `NA`, `N/A`, `#N/A`, `<NA>`, `NaN`, `null` or `?`, in capitals \
             or small letters (but `Na` is a word)";
        "targets" Required, Any,
            "the columns that the model is to answer";
        "target_kind" Is("\"numbers\""), Any,
            "what they hold: `\"numbers\"`; `\"class\"`, one column with a class's name; `\"chances\"`, 0 for no and \
             1 for yes, or between";
        "inputs" Follows("all others"), Any,
            "the columns that the model is given";
        "categories" Is("[]"), Any,
            "those of them that hold words, or numbers that stand for words: each becomes an input that is 0 or 1";
        "logarithms" Is("[]"), Any,
            "columns of numbers of which the logarithm is taken: prices, masses and the like, all above 0";
        "delimiter" Is("\",\""), Any,
            "the character between two values: a comma, a semicolon or the like";
        "held_out" Is("0.1"), Between(0.0, 1.0),
            "share of the rows to evaluate on; the same ones for every seed";
        "shard_samples" Is("20000"), AtLeast(1),
            "about how many samples volunteers fetch at once; a shard has at most 64 MiB";
    }
    "[model]" [] {
        "input" Required, Any,
            "shape of a sample, `[channels, height, width]`, `[features]` or, of tokens, `[positions]`; a vector as \
             long as the image takes it as a vector";
        "loss" Is("\"softmax_cross_entropy\""), Any,
            "what training makes small, as `torch.nn` has it: `\"softmax_cross_entropy\"` (of a class, or at each \
             position of the next token), `\"mean_squared_error\"` or `\"binary_cross_entropy\"` (of logits)";
    }
    "[[model.layers]]" [] {
        "kind" Required, Any,
            "one of those below, as in PyTorch; one table for each layer";
    }
    "[[model.layers]]" ["linear"] {
        "outputs" Required, Any,
            "how many numbers come out";
        "inputs" Follows("what comes in"), Any,
            "only a check: how many numbers come in; of a sequence `[positions, width]`, which linear takes position \
             by position, the width";
    }
    "[[model.layers]]" ["conv2d"] {
        "filters" Required, Any,
            "channels that come out";
        "kernel" Required, Any,
            "one integer for a square, or `[height, width]`; so are the next two";
        "stride" Is("1"), Any,
            "pixels";
        "padding" Is("0"), Any,
            "pixels of zeros on each side";
        "groups" Is("1"), Any,
            "filters and channels are divided into this many groups, each on its own; as many as channels: depthwise";
        "channels" Follows("what comes in"), Any,
            "only a check: channels that come in";
    }
    "[[model.layers]]" ["max_pool2d", "avg_pool2d"] {
        "size" Required, Any,
            "one integer for a square, or `[height, width]`";
        "stride" Follows("`size`"), Any,
            "pixels";
    }
    "[[model.layers]]" ["group_norm"] {
        "groups" Required, Any,
            "groups of channels that are normalised each on its own, in each sample";
    }
    "[[model.layers]]" ["dropout"] {
        "share" Required, Any,
            "share of the numbers that are set to zero while training; the others grow to make up for it; 0 to below 1";
    }
    "[[model.layers]]" ["residual"] {
        "layers" Required, Any,
            "a list of layers like this one, `{ kind = \"…\", … }`; what they give is added to what comes in";
        "projection" Follows("none"), Any,
            "a layer that what comes in passes before it is added, where the list changes the shape";
    }
    "[[model.layers]]" ["embedding"] {
        "tokens" Required, Any,
            "inputs are whole numbers below it; at most 16,777,216. Only as the first layer: `[positions]` become a \
             sequence `[positions, width]`";
        "width" Required, Any,
            "how many numbers each token becomes";
    }
    "[[model.layers]]" ["causal_self_attention"] {
        "heads" Required, Any,
            "parts of the width, each of which weighs a position and those before it by itself; a divisor of the \
             width";
    }
    "[[model.layers]]" ["patchify"] {
        "size" Required, Any,
            "size of the patches that an image is cut into, which become a sequence; one integer for a square, or \
             `[height, width]`; divides the image";
    }
    "[[model.layers]]" [
        "flatten", "relu", "gelu", "tanh", "sigmoid", "layer_norm", "global_avg_pool", "positional_embedding",
    ] {
        "" Required, Any,
            "no keys; gelu is the exact one; layer_norm normalises along the last axis; of a sequence, \
             global_avg_pool is the mean of the positions; positional_embedding adds learned numbers to each";
    }
    "[training]" [] {
        "mode" Is("\"decoupled\""), Any,
            "computing never waits for synchronising. The others are baselines to compare with: `\"lockstep\"`, \
             plain bulk-synchronous training, where all wait for the slowest; `\"asynchronous\"`, where each \
             contribution makes a version at once, and its volunteer waits for that";
        "backup_workers" Is("0"), Any,
            "in lockstep, the run does not wait for this many volunteers, and drops what they bring late: for runs in \
             which a few are much slower than the rest";
        "contribution_codec" Is("\"f32\""), Any,
            "how contributions are encoded on their way up: `\"f32\"`, as they are; `\"f16\"`, half of that; \
             `\"int8\"`, about a quarter; `\"top_k\"`, only the largest thirty-second of the values, a sixteenth: \
             for the slowest links. What encoding loses goes into the next contribution";
        "model_codec" Is("\"f32\""), Any,
            "the same for models on their way down, which travel as differences; a volunteer that joins gets one \
             whole, in f32. Here `\"top_k\"` costs accuracy, and the log says so: volunteers compute on models that \
             lack most of the last changes";
        "communication_share" Is("0.5"), Number(0.001, 1.0),
            "share of the time in which a volunteer's link may be busy: a slower link gets a longer read-out period \
             of its own. Smaller where people share their link with other things";
        "minibatch" Is("32"), Whole(1, 4096),
            "samples in one gradient of an ML module, whose memory grows with it";
        "superstep_samples" Is("256"), Whole(1, 1 << 24),
            "samples that a superstep aims at, the batch that the learning rate was chosen for; not below `minibatch`";
        "quorum" Is("0.75"), Above(0.0, 1.0),
            "share of the expected samples with which a superstep may close";
        "min_period_ms" Is("50"), Whole(1, 3_600_000),
            "shortest period between read-outs, milliseconds; where most links need a longer one, that is the run's";
        "max_period_ms" Is("10000"), Whole(1, 3_600_000),
            "longest period between read-outs, milliseconds; not below `min_period_ms`";
        "max_staleness" Is("64"), Whole(0, 1024),
            "contributions to versions older than this are refused; the server keeps as many versions";
        "staleness_exponent" Is("1"), Number(0.0, 4.0),
            "a in a contribution's weight (1 + staleness)^−a; 0 weighs all the same";
        "clip" Is("3"), NoneOr(1.0, 1e6),
            "a contribution's norm is bounded at this multiple of the running median of the others' (of all, as long \
             as there are few others), and the local steps that a volunteer claims at this multiple of the others' \
             running upper quartile";
        "max_read_out_samples" Follows("16 × `superstep_samples`"), AtLeast(1),
            "most samples that one read-out is weighted with; not below `minibatch`";
        "lr_scaling" Is("\"none\""), Any,
            "how the learning rate follows a superstep of more than `superstep_samples`: `\"none\"`, \
             `\"square_root\"` or `\"linear\"`";
        "session_ttl_seconds" Is("600"), Whole(1, 604_800),
            "after so long without a word a session rests: what it may still send counts as lost until it comes; at \
             most a week";
        "on_divergence" Is("\"stop\""), Any,
            "what happens when nothing is finite any more: `\"stop\"`, or back to a good checkpoint with the learning \
             rate times a factor, such as `{ factor = 0.5, at_most = 3 }`; after so many times it stops";
    }
    "[training.local_steps]" [] {
        "learning_rate" Required, Number(MIN_LEARNING_RATE, MAX_LEARNING_RATE),
            "of a local step; it stays the same over the run. With this table, ML modules also move along their own \
             gradients between read-outs: see \"Slow links\". Only decoupled";
        "optimizer" Is("{ kind = \"sgd\" }"), Any,
            "how a gradient moves an ML module's own copy; keys as in `[training.optimizer]`, which becomes the \
             outer one";
    }
    "[training.optimizer]" [] {
        "kind" Required, Any,
            "`\"sgd\"`, `\"adam\"` or `\"adamw\"`, as in `torch.optim`";
    }
    "[training.optimizer]" ["sgd"] {
        "momentum" Is("0"), Below(0.0, 1.0),
            "how much of its velocity a step keeps";
        "nesterov" Is("false"), Any,
            "look ahead along the velocity; needs momentum. Makes stale gradients harmless, nearly";
        "weight_decay" Is("0"), Number(0.0, MAX_SETTING),
            "L2 penalty";
    }
    "[training.optimizer]" ["adam", "adamw"] {
        "beta1" Is("0.9"), Below(0.0, 1.0),
            "decay of the running mean of the gradient";
        "beta2" Is("0.999"), Below(0.0, 1.0),
            "decay of the running mean of its square";
        "epsilon" Is("1e-8"), Above(0.0, MAX_SETTING),
            "keeps the divisor from 0";
        "weight_decay" Is("0"), Number(0.0, MAX_SETTING),
            "L2 penalty; adamw: how parameters shrink, per learning rate";
        "nesterov" Is("false"), Any,
            "look ahead along the running mean, as in NAdam; needs `beta1`. Makes stale gradients harmless, nearly";
    }
    "[training.schedule]" [] {
        "kind" Required, Any,
            "`\"constant\"`, `\"cosine\"` or `\"step\"`, counted in samples";
        "learning_rate" Required, Number(MIN_LEARNING_RATE, MAX_LEARNING_RATE),
            "the factor of a step, after the warm-up";
        "warmup_samples" Is("0"), Any,
            "samples over which the learning rate rises from 0";
    }
    "[training.schedule]" ["cosine"] {
        "total_samples" Required, Any,
            "where the fall ends, samples from the run's start; more than `warmup_samples`";
        "final_fraction" Is("0"), Number(0.0, 1.0),
            "share of the learning rate that is left then";
    }
    "[training.schedule]" ["step"] {
        "every_samples" Required, AtLeast(1),
            "after each time this many samples the learning rate is multiplied by `factor`";
        "factor" Required, Number(0.0, 1.0),
            "see `every_samples`";
    }
    "[evaluation]" [] {
        "interval_seconds" Is("5"), Number(0.1, 86_400.0),
            "seconds from one evaluation on the held-out samples to the next. A model that takes long to evaluate is \
             evaluated less often: for a quarter of the time at most";
        "samples" Follows("all"), AtLeast(1),
            "how many of the held-out samples an evaluation takes, evenly spread over them";
    }
    "[checkpoints]" [] {
        "interval_seconds" Is("5"), NoneOr(0.1, 86_400.0),
            "seconds from one checkpoint to the next while contributions come. They come earlier when a volunteer has \
             half of what it can keep. With 0 there are none: a server that ends has forgotten the run";
        "keep" Is("3"), Whole(1, 1000),
            "how many checkpoints stay: if the newest is damaged, the run goes on from the one before";
        "best" Is("true"), Any,
            "keep the best evaluated model beside them: by right answers, or by loss where there are none";
    }
};
