//! Reading out: the ML modules' aggregates become one contribution, without an allocation.

use super::ml_modules::MlModules;
use crate::protocol::codec::Codec;
use crate::protocol::frame::ContributionFrame;
use crate::protocol::message::{Contribution, MAX_STEP_RUNS, ModuleStepRun, Report, SessionId};
use crate::shared_memory::Header;

/// The memory of a read-out: its header, the merged sum, and the error of the encoding.
#[derive(Debug)]
pub(super) struct ReadOutBuffer {
    has_local_steps: bool,
    /// The header of the next contribution. Its list of runs keeps its memory.
    header: Contribution,
    /// The ML modules' sums are merged here, before they are encoded.
    merged: Box<[f32]>,
    /// The codec of contributions.
    codec: Codec,
    /// The error of the encoding so far, for the next contribution; empty with [`Codec::F32`], which has none.
    error: Box<[f32]>,
    /// The ML modules were flipped, and not all of them are taken yet.
    under_way: Option<UnderWay>,
}

/// A read-out that has begun. The ML modules' sums are merged in their order, so that the result is always the same.
#[derive(Debug)]
struct UnderWay {
    frame: ContributionFrame,
    next_ml_module: usize,
}

impl ReadOutBuffer {
    /// For a model of `parameters` parameters. `blank` holds the fields that no read-out changes.
    pub(super) fn new(parameters: usize, has_local_steps: bool, blank: Contribution) -> ReadOutBuffer {
        ReadOutBuffer {
            has_local_steps,
            header: Contribution {
                step_runs: Vec::with_capacity(MAX_STEP_RUNS),
                ..blank
            },
            merged: vec![0.0; parameters].into_boxed_slice(),
            codec: Codec::F32,
            error: Box::default(),
            under_way: None,
        }
    }

    /// Sets the codec of contributions from now on.
    pub(super) fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
        if codec != Codec::F32 && self.error.is_empty() {
            self.error = vec![0.0; self.merged.len()].into_boxed_slice();
        }
    }

    /// Whether a read-out has begun that could not be finished yet.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins a read-out, which will lie in `frame`.
    pub(super) fn begin(&mut self, frame: ContributionFrame, modules: &mut MlModules) {
        modules.flip();
        let header = &mut self.header;
        header.incarnation = u32::MAX;
        (header.samples, header.gradients, header.loss_sum) = (0, 0, 0.0);
        (header.version_sum, header.step_sum) = (0, 0);
        header.step_runs.clear();
        header.step_runs_not_listed = 0;
        self.under_way = Some(UnderWay {
            frame,
            next_ml_module: 0,
        });
    }

    /// Takes the ML modules' aggregates, up to the first ML module that is in the middle of an add. Returns the frame
    /// when all are taken.
    pub(super) fn merge(&mut self, modules: &mut MlModules) -> Option<ContributionFrame> {
        let UnderWay { next_ml_module, .. } = self.under_way.as_mut()?;
        let (header, merged, has_local_steps) = (&mut self.header, &mut self.merged, self.has_local_steps);
        while *next_ml_module < modules.count() {
            let ml_module = *next_ml_module;
            modules.take(ml_module, |taken, sum| {
                // Under local steps n · U / h, else the sum as it is.
                let factor = match has_local_steps {
                    true => (taken.samples as f64 / taken.gradients as f64) as f32,
                    false => 1.0,
                };
                let values = merged.iter_mut().zip(sum);
                if header.gradients == 0 {
                    values.for_each(|(merged, value)| *merged = value * factor);
                } else {
                    values.for_each(|(merged, value)| *merged += value * factor);
                }
                add_header(header, ml_module, taken);
                if has_local_steps {
                    header.step_sum += u128::from(taken.samples) * u128::from(taken.gradients);
                }
            })?;
            *next_ml_module += 1;
        }
        self.under_way.take().map(|under_way| under_way.frame)
    }

    /// Samples in the merged sum.
    pub(super) fn samples(&self) -> u64 {
        self.header.samples
    }

    /// Whether nothing was merged.
    pub(super) fn is_empty(&self) -> bool {
        self.header.gradients == 0
    }

    /// Encodes the merged sum into `frame`, as contribution `sequence` of this session.
    pub(super) fn seal(&mut self, frame: &mut ContributionFrame, session: SessionId, sequence: u64, report: Report) {
        self.header.session = session;
        self.header.sequence = sequence;
        self.header.report = report;
        self.header.codec = self.codec;
        let payload = frame.payload_mut(self.codec.encoded_bytes(self.merged.len()));
        if self.codec == Codec::F32 {
            self.codec.encode(&self.merged, payload);
        } else {
            self.codec
                .encode_with_feedback(&mut self.merged, &mut self.error, payload);
            if !self.error.iter().all(|error| error.is_finite()) {
                // A sum was beyond an f32, and its encoding has no meaning. An infinite loss makes the server refuse
                // it.
                self.header.loss_sum = f64::INFINITY;
                self.error.fill(0.0);
            }
        }
        let sealed = frame.seal(&self.header);
        assert!(sealed.is_ok(), "the list of runs is bounded, so the header always fits");
    }
}

/// Adds an ML module's header to a contribution's.
fn add_header(header: &mut Contribution, ml_module: usize, taken: &Header) {
    // The oldest: a restart of the server may fall between two gradients.
    header.incarnation = header.incarnation.min(taken.incarnation);
    header.samples += taken.samples;
    header.gradients += taken.gradients;
    header.loss_sum += taken.loss_sum;
    header.version_sum += taken.version_sum;
    header.step_runs_not_listed += taken.unlisted_runs();
    for run in taken.runs() {
        if header.step_runs.len() < MAX_STEP_RUNS {
            header.step_runs.push(ModuleStepRun::new(ml_module, run));
        } else {
            header.step_runs_not_listed += 1;
        }
    }
}
