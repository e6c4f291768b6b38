//! What the central and the local BSP modules say to each other, and how it lies in a frame.
//!
//! A frame is one binary WebSocket message, little-endian throughout:
//!
//! ```text
//! length of the header, u32 │ header, postcard │ tensor payload, f32 each (may be empty)
//! ```
//!
//! A frame is checked once, when it is decoded; whoever holds a [`Received`] need not look at lengths again. The payload
//! stays bytes: it is not aligned, and is read by [`floats`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::shared_memory::{ModelStamp, PhaseTimes, StepRun};

/// The version of this protocol. A volunteer that speaks another one is refused in the hello.
pub const PROTOCOL: u16 = 1;

/// The longest header that is accepted, and the room that a writer leaves for one. A read-out's runs of steps are what
/// fills it: at most [`MAX_STEP_RUNS`] of them, each at most 30 bytes long; everything else together stays under 512 bytes.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The most runs of steps that one read-out lists. More are counted, not listed: an audit then can't repeat these steps.
pub const MAX_STEP_RUNS: usize = 240;

/// The longest frame in a run whose model has `parameters` parameters.
pub const fn max_frame_bytes(parameters: usize) -> usize {
    LENGTH_BYTES + MAX_HEADER_BYTES + parameters * FLOAT_BYTES
}

pub(crate) const LENGTH_BYTES: usize = 4;
pub(crate) const FLOAT_BYTES: usize = 4;

/// One run of the central controller: one model, trained once. Another start of the server is another run, unless it
/// resumes from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(pub u64);

/// One tab's membership in a run, from its first hello until its memory is gone. Sessions are numbered from 1 in the
/// order of their first hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Proves that a reconnecting volunteer is the one whose session it names: nobody else has seen this number.
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
}

/// What a local BSP module sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromVolunteer {
    /// A contribution. The payload is the sum of the gradients. (Stays the first variant: see [`ReadOutFrame::seal`].)
    ReadOut(ReadOut),
    /// The first message on a connection, and the first after a freeze: nothing is read out before its welcome.
    Hello(Hello),
    /// The model of this stamp has arrived and is published: the next one may follow.
    Stored(ModelStamp),
    /// "I am here", when there was nothing else to say for a while.
    Pulse(Report),
    /// The volunteer leaves for good; everything that it had is settled.
    Leave,
}

/// What the central BSP module sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromCentral {
    /// The answer to a hello.
    Welcome(Welcome),
    /// The answer to a hello, or to something that no volunteer of ours sends. The connection ends.
    Refused(Refusal),
    /// Store this model in the shared memory. The payload is the parameters.
    StoreModel(ModelStamp),
    /// The standing instruction to read out the shared memory, every so many microseconds from now on.
    ReadOutEvery {
        /// The period in microseconds.
        period_us: u64,
    },
    /// Contributions were settled.
    Settled(Settled),
}

/// Who a volunteer is.
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
    /// How it is doing.
    pub report: Report,
}

/// What a local BSP module says of its tab besides gradients. Counts and times are totals since its start.
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
}

/// The header of a contribution: what is in the sum that its payload holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadOut {
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
    /// Which steps are in it.
    pub step_runs: Vec<ModuleStepRun>,
    /// Runs of steps in it beyond those that are listed.
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
    /// How many steps.
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

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session, new or taken up again.
    pub session: SessionId,
    /// Its proof, to be shown in the next hello.
    pub token: Token,
    /// The read-out period in microseconds.
    pub period_us: u64,
    /// Contributions of this session up to this number are settled.
    pub settled: u64,
    /// … and up to this one durable.
    pub durable: u64,
}

/// Which contributions of a session are settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// All up to this number, finally.
    pub through: u64,
    /// All up to this number are durable too: the volunteer may forget them.
    pub durable: u64,
    /// The reason, if the last one was refused.
    pub refused: Option<ContributionRefusal>,
}

/// Why a volunteer is turned away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    #[error(
        "protocol version {theirs} is not ours ({ours}); reload the page, or take the volunteer of this server's version"
    )]
    Protocol {
        /// The volunteer's version.
        theirs: u16,
        /// The server's version.
        ours: u16,
    },
    /// It means another run.
    #[error("the server trains another run now; join again")]
    AnotherRun,
    /// It computes gradients of another model.
    #[error("the volunteer's model is not the one of this run; join again")]
    AnotherModel,
    /// Its session is unknown here, or over.
    #[error("session {} is over; join again", .0.0)]
    SessionOver(SessionId),
    /// The server has as many sessions as it takes.
    #[error("{max} volunteers are here already, the most that this server takes; try again later")]
    Full {
        /// The limit.
        max: usize,
    },
    /// It sent something before its hello.
    #[error("a hello comes first")]
    HelloFirst,
    /// A read-out's number is not the next one.
    #[error("contribution {got} came where {expected} was due")]
    OutOfOrder {
        /// The number that came.
        got: u64,
        /// The number that was due.
        expected: u64,
    },
    /// A read-out of a session that isn't the connection's own.
    #[error("a read-out of session {} came on another session's connection", .0.0)]
    AnotherSession(SessionId),
    /// A frame that can't be read.
    #[error("a frame can't be read: {0}")]
    Malformed(String),
    /// The run is over.
    #[error("the run is finished; thank you")]
    Finished,
}

/// Why a contribution was refused. The volunteer stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum ContributionRefusal {
    /// It was computed on models that are too old.
    #[error("it is {staleness} versions old; at most {max} are taken")]
    TooStale {
        /// Its staleness, rounded down.
        staleness: u64,
        /// The run's `max_staleness`.
        max: u64,
    },
    /// Its base version is one that does not exist yet.
    #[error("it says that it was computed on version {version}, which does not exist yet")]
    FromTheFuture {
        /// The mean version that it claims, rounded down.
        version: u64,
    },
    /// Its payload is not as long as the model.
    #[error("its gradient has {got} values; the model has {expected} parameters")]
    WrongLength {
        /// Values in the payload.
        got: usize,
        /// The model's parameters.
        expected: usize,
    },
    /// Its gradient or loss is infinite or not a number.
    #[error("its gradient or its loss is not finite")]
    NotFinite,
    /// It says that it holds no samples, or fewer samples than gradients.
    #[error("it says that it holds {gradients} gradients of {samples} samples, which can't be")]
    Implausible {
        /// Samples that it claims.
        samples: u64,
        /// Gradients that it claims.
        gradients: u64,
    },
    /// It belongs to another run, model or incarnation.
    #[error("it belongs to another run, model or incarnation")]
    AnotherRun,
    /// The open superstep holds as many contributions of its session as it takes.
    #[error("{max} contributions of this volunteer are in the open superstep already, the most that it takes")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// A message as it arrived, and the bytes behind its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Received<M> {
    /// The header.
    pub message: M,
    /// The tensor payload: little-endian f32, a whole number of them; read by [`floats`].
    pub payload: Bytes,
}

/// Why a frame can't be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than its own header.
    #[error("it ends after {got} bytes, but its header needs {needed}")]
    Truncated {
        /// Bytes that are there.
        got: usize,
        /// Bytes that should be.
        needed: usize,
    },
    /// Its header is longer than any of ours.
    #[error("its header is said to be {got} bytes long; at most {MAX_HEADER_BYTES} are")]
    HeaderTooLong {
        /// The length that it says.
        got: usize,
    },
    /// Its header is not a message of this protocol.
    #[error("its header is not a message of protocol {PROTOCOL}: {0}")]
    Header(postcard::Error),
    /// Bytes are left over in the header.
    #[error("{0} bytes are left over in its header")]
    HeaderRest(usize),
    /// The payload is not a whole number of floats, or the message has none.
    #[error("{0} bytes follow its header, where a whole number of f32 values, or nothing, should")]
    Payload(usize),
}

impl FromVolunteer {
    /// Reads a frame that came from a volunteer.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it, and where.
    pub fn decode(frame: &Bytes) -> Result<Received<FromVolunteer>, FrameError> {
        decode(frame, |message| matches!(message, FromVolunteer::ReadOut(_)))
    }

    /// The frame of this message, without a payload. (A read-out's frame is written by [`ReadOutFrame`].)
    pub fn encode(&self) -> Bytes {
        encode(self, &[])
    }
}

impl FromCentral {
    /// Reads a frame that came from the central controller.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it, and where.
    pub fn decode(frame: &Bytes) -> Result<Received<FromCentral>, FrameError> {
        decode(frame, |message| matches!(message, FromCentral::StoreModel(_)))
    }

    /// The frame of this message, without a payload.
    pub fn encode(&self) -> Bytes {
        encode(self, &[])
    }

    /// The frame of the model `parameters`. Encoded once per version and shared by all sockets.
    pub fn encode_model(stamp: ModelStamp, parameters: &[f32]) -> Bytes {
        encode(&FromCentral::StoreModel(stamp), parameters)
    }
}

fn encode<M: Serialize>(message: &M, payload: &[f32]) -> Bytes {
    let mut frame = vec![0; LENGTH_BYTES];
    // Serialising plain data into a growing vector has nothing that could fail: no maps of unknown length, no writer.
    if let Ok(header) = postcard::to_allocvec(message) {
        debug_assert!(header.len() <= MAX_HEADER_BYTES);
        frame[..LENGTH_BYTES].copy_from_slice(&(header.len() as u32).to_le_bytes());
        frame.extend_from_slice(&header);
    }
    frame.reserve_exact(payload.len() * FLOAT_BYTES);
    frame.extend(payload.iter().flat_map(|value| value.to_le_bytes()));
    frame.into()
}

fn decode<M: for<'de> Deserialize<'de>>(
    frame: &Bytes,
    has_payload: impl Fn(&M) -> bool,
) -> Result<Received<M>, FrameError> {
    let truncated = |needed| FrameError::Truncated {
        got: frame.len(),
        needed,
    };
    let length = frame.first_chunk::<LENGTH_BYTES>().ok_or(truncated(LENGTH_BYTES))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(FrameError::HeaderTooLong { got: length });
    }
    let end = LENGTH_BYTES + length;
    let header = frame.get(LENGTH_BYTES..end).ok_or(truncated(end))?;
    let (message, rest) = postcard::take_from_bytes::<M>(header).map_err(FrameError::Header)?;
    if !rest.is_empty() {
        return Err(FrameError::HeaderRest(rest.len()));
    }
    let payload = frame.slice(end..);
    if !payload.len().is_multiple_of(FLOAT_BYTES) || !(payload.is_empty() || has_payload(&message)) {
        return Err(FrameError::Payload(payload.len()));
    }
    Ok(Received { message, payload })
}

/// The values of a payload, in order.
pub fn floats(payload: &[u8]) -> impl ExactSizeIterator<Item = f32> + '_ {
    payload
        .as_chunks::<FLOAT_BYTES>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
}

/// The buffer of one read-out's frame: made once, filled again and again, without allocating.
///
/// The payload has its place before the header is known, because what the header says is learned while the ML modules'
/// sums are merged into the payload. So the header is written backwards from the payload, and the frame begins where
/// the header does.
#[derive(Debug)]
pub struct ReadOutFrame {
    buffer: Box<[u8]>,
    begin: usize,
}

const PAYLOAD_BEGIN: usize = LENGTH_BYTES + MAX_HEADER_BYTES;

impl ReadOutFrame {
    /// A buffer for read-outs of a model of `parameters` parameters.
    pub fn new(parameters: usize) -> ReadOutFrame {
        ReadOutFrame {
            buffer: vec![0; max_frame_bytes(parameters)].into_boxed_slice(),
            begin: PAYLOAD_BEGIN,
        }
    }

    /// Replaces the payload by `values`.
    pub fn store(&mut self, values: &[f32]) {
        for (bytes, value) in self.payload_mut().iter_mut().zip(values) {
            *bytes = value.to_le_bytes();
        }
    }

    /// Adds `values` to the payload.
    pub fn add(&mut self, values: &[f32]) {
        for (bytes, value) in self.payload_mut().iter_mut().zip(values) {
            *bytes = (f32::from_le_bytes(*bytes) + value).to_le_bytes();
        }
    }

    /// Writes the header.
    ///
    /// # Errors
    /// A header that is longer than [`MAX_HEADER_BYTES`]: it lists more than [`MAX_STEP_RUNS`] runs.
    pub fn seal(&mut self, read_out: &ReadOut) -> Result<(), postcard::Error> {
        /// `FromVolunteer` with its first variant borrowed, so that a read-out's list of runs keeps its memory.
        #[derive(Serialize)]
        enum Borrowed<'a> {
            ReadOut(&'a ReadOut),
        }
        let mut header = [0; MAX_HEADER_BYTES];
        let length = postcard::to_slice(&Borrowed::ReadOut(read_out), &mut header)?.len();
        let header_begin = PAYLOAD_BEGIN - length;
        self.begin = header_begin - LENGTH_BYTES;
        self.buffer[header_begin..PAYLOAD_BEGIN].copy_from_slice(&header[..length]);
        self.buffer[self.begin..header_begin].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }

    /// The frame, as it was sealed last.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    fn payload_mut(&mut self) -> &mut [[u8; FLOAT_BYTES]] {
        self.buffer[PAYLOAD_BEGIN..].as_chunks_mut().0
    }
}

#[cfg(test)]
mod tests;
