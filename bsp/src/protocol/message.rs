//! The messages between the central and the local BSP modules. A message is the header of a [`super::frame`].

use serde::{Deserialize, Serialize};

use crate::protocol::codec::{Codec, CodecError};
use crate::shared_memory::{ModelStamp, PhaseTimes, StepRun};

mod refusal;

pub use refusal::{ContributionRefusal, Refusal};

/// The version of this protocol. A volunteer that speaks another version is refused at its hello.
pub const PROTOCOL: u16 = 4;

/// The most runs of steps that one contribution lists: they fill a header. Further runs are counted only, and an audit
/// can't repeat them.
pub const MAX_STEP_RUNS: usize = 240;

/// One run of the central controller: one model, trained once. A server that starts again goes on with its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// One tab's membership in a run, from its first hello until its memory is gone. Sessions are numbered from 1 in the
/// order of their first hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Proves that a reconnecting volunteer owns the session that it names: no other volunteer has seen this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub u64);

/// How computing and synchronising relate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Computing never waits for synchronising.
    #[default]
    Decoupled,
    /// Plain BSP: one minibatch for each ML module and version, then a barrier. The baseline.
    Lockstep,
    /// Asynchronous SGD with a parameter server (Dean et al., 2012): the other baseline. Each contribution makes a
    /// version when it arrives. Only its volunteer is sent that version, and waits for it.
    Asynchronous,
}

impl Mode {
    /// Whether an ML module computes one gradient on a model and then waits for the next.
    pub fn has_barrier(self) -> bool {
        self != Mode::Decoupled
    }
}

/// The messages of a local BSP module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromVolunteer {
    /// A contribution. The payload is the sum of the gradients. (It stays the first variant:
    /// [`super::frame::ContributionFrame::seal`] relies on that.)
    Contribution(Contribution),
    /// The first message on a connection, and the first after a freeze: nothing is read out before its welcome.
    Hello(Hello),
    /// The model of this stamp has arrived and is published: the next one may follow.
    Stored(ModelStamp),
    /// "I am here", sent when nothing else was sent for a while.
    Heartbeat(Report),
    /// The volunteer leaves for good. All its contributions are acknowledged.
    Leave,
}

/// The messages of the central BSP module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromCentral {
    /// The answer to a hello.
    Welcome(Welcome),
    /// The answer to a hello, or to something that no honest volunteer sends. The connection ends.
    Refused(Refusal),
    /// Store this model in the shared memory. The payload is the parameters, or what leads to them.
    StoreModel(StoreModel),
    /// Under local steps, before each model: the model that follows settles the volunteer's contributions up to this
    /// number. (It is a message of its own because all volunteers share the model's frame.)
    NextModelSettles {
        /// The number.
        through: u64,
    },
    /// The standing instruction to read out the shared memory with this period from now on.
    ReadOutEvery {
        /// The period in microseconds.
        period_us: u64,
    },
    /// Contributions are acknowledged: settled, as accepted or refused.
    Ack(Ack),
    /// Contributions up to this number are durable: the volunteer may forget them.
    Durable {
        /// The number.
        through: u64,
    },
    /// The server stops, and will be back. The volunteer keeps its session, computes on, and connects again.
    BackSoon,
}

/// A volunteer's introduction when it connects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] as the volunteer speaks it.
    pub protocol: u16,
    /// The run that the volunteer means to join.
    pub run: RunId,
    /// The hash of the model spec that it computes gradients of.
    pub spec_hash: u64,
    /// The incarnation of the last model that it has seen, if any.
    pub incarnation: Option<u32>,
    /// The session to go on with, and its proof; `None` for a new one.
    pub session: Option<(SessionId, Token)>,
    /// Contributions of this session up to this number are durable as the volunteer was told: it can't send them again.
    pub durable: u64,
    /// The codecs that it can write and read. Every volunteer can [`Codec::F32`], listed or not.
    pub codecs: Vec<Codec>,
    /// How it is doing.
    pub report: Report,
}

/// A local BSP module's report about its tab. Counts and times are totals since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// ML modules that compute.
    pub ml_modules: u16,
    /// Whether the volunteer has paused.
    pub is_paused: bool,
    /// Gradients that were refused before the add, because they were not finite.
    pub not_finite: u64,
    /// Gradients that were lost because an ML module died while it added.
    pub discarded: u64,
    /// Time of the ML modules, summed over them, in microseconds.
    pub time_us: PhaseTimes,
    /// The time from sending a contribution to its acknowledgement, less the round trip, in microseconds: the shortest
    /// of the last few; 0 before the first.
    pub upload_us: u64,
    /// The time that the shortest message and its answer take, in microseconds; 0 before the first.
    pub round_trip_us: u64,
}

/// The header of a contribution: the content of the sum in its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// The run that it belongs to.
    pub run: RunId,
    /// The hash of the model spec.
    pub spec_hash: u64,
    /// The incarnation of the models that it was computed on.
    pub incarnation: u32,
    /// The session that it comes from.
    pub session: SessionId,
    /// Its number in this session, counted from 1, without gaps.
    pub sequence: u64,
    /// Samples in the sum.
    pub samples: u64,
    /// Gradients (minibatches) in the sum.
    pub gradients: u64,
    /// Sum of the samples' losses.
    pub loss_sum: f64,
    /// Σ samples · version: divided by `samples`, the mean version that it was computed on.
    pub version_sum: u128,
    /// Under local steps Σ samples · steps over the ML modules, and the payload is Σ samples · displacement / steps.
    /// Otherwise 0.
    pub step_sum: u128,
    /// How the payload is encoded.
    pub codec: Codec,
    /// The steps that are in it.
    pub step_runs: Vec<ModuleStepRun>,
    /// The number of further runs of steps, which are not listed.
    pub step_runs_not_listed: u32,
    /// How the volunteer is doing.
    pub report: Report,
}

/// A run of consecutive steps of one ML module on one model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModuleStepRun {
    /// The ML module's index in its tab.
    pub ml_module: u16,
    /// The first step's number.
    pub first_step: u64,
    /// The number of steps.
    pub count: u32,
    /// The version of the model that they were computed on.
    pub version: u64,
}

impl ModuleStepRun {
    /// The run `run` of the ML module `ml_module`.
    pub fn new(ml_module: usize, run: &StepRun) -> ModuleStepRun {
        ModuleStepRun {
            ml_module: u16::try_from(ml_module).unwrap_or(u16::MAX),
            first_step: run.first_step,
            count: run.count,
            version: run.version,
        }
    }
}

/// The header of a model: which model, and how the payload encodes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreModel {
    /// The model.
    pub stamp: ModelStamp,
    /// How the payload leads to it.
    pub encoding: ModelEncoding,
}

/// How the payload of a model's frame encodes the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelEncoding {
    /// All parameters, f32.
    Whole,
    /// Differences to the model of version `from` of the same incarnation: one encoded vector for each version after
    /// it, one behind the other, to be added in this order.
    Differences {
        /// The version that the volunteer has stored.
        from: u64,
        /// How each vector is encoded.
        codec: Codec,
    },
}

impl StoreModel {
    /// Checks the payload that came with it, for a model of `parameters` parameters.
    ///
    /// # Errors
    /// The payload is too long or too short, or can't be decoded.
    pub fn check(&self, payload: &[u8], parameters: usize) -> Result<(), CodecError> {
        let ModelEncoding::Differences { from, codec } = self.encoding else {
            return Codec::F32.check(payload, parameters);
        };
        let one = codec.encoded_bytes(parameters);
        let count = usize::try_from(self.stamp.version.saturating_sub(from)).unwrap_or(usize::MAX);
        let expected = one.saturating_mul(count);
        if payload.len() != expected {
            return Err(CodecError::Length {
                got: payload.len(),
                count: parameters.saturating_mul(count),
                codec,
                expected,
            });
        }
        payload
            .chunks(one.max(1))
            .try_for_each(|difference| codec.check(difference, parameters))
    }

    /// Writes the model that a checked payload leads to. `before` is the version that the differences start from.
    pub fn store(&self, payload: &[u8], before: &[f32], model: &mut [f32]) {
        let ModelEncoding::Differences { codec, .. } = self.encoding else {
            return Codec::F32.decode_into(payload, model, |parameter, value| *parameter = value);
        };
        model.copy_from_slice(before);
        for difference in payload.chunks(codec.encoded_bytes(model.len()).max(1)) {
            codec.decode_into(difference, model, |parameter, value| *parameter += value);
        }
    }
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session, new or resumed.
    pub session: SessionId,
    /// Its proof, to be shown in the next hello.
    pub token: Token,
    /// The read-out period in microseconds.
    pub period_us: u64,
    /// Contributions of this session up to this number are acknowledged.
    pub settled: u64,
    /// Contributions up to this number are durable too.
    pub durable: u64,
    /// Whether the last settled contribution was refused: its acknowledgement may have been lost with the link.
    pub is_last_refused: bool,
    /// The codec for contributions: one that the hello named.
    pub codec: Codec,
}

/// The acknowledgement of a session's contributions: each was accepted or refused, finally.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// All up to this number are acknowledged.
    pub through: u64,
    /// All up to this number are durable too, and the volunteer may forget them.
    pub durable: u64,
    /// The reason, if the last contribution was refused.
    pub refused: Option<ContributionRefusal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_that_do_not_lead_from_the_version_that_they_name_are_refused() {
        let stamp = ModelStamp {
            incarnation: 1,
            version: 7,
        };
        let one = Codec::Int8.encoded_bytes(3);
        for (from, bytes, is_right) in [
            (6, one, true),
            (5, 2 * one, true),
            (5, one, false),
            (7, one, false),
            (9, one, false),
        ] {
            let codec = Codec::Int8;
            let encoding = ModelEncoding::Differences { from, codec };
            let checked = StoreModel { stamp, encoding }.check(&vec![0; bytes], 3);
            assert_eq!(checked.is_ok(), is_right, "from {from}, {bytes} bytes");
        }
    }
}
