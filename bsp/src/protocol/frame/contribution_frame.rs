//! The frame of a contribution, as the local BSP module writes it.

use serde::Serialize;

use super::{LENGTH_BYTES, MAX_HEADER_BYTES, max_frame_bytes};
use crate::protocol::message::Contribution;

/// The buffer of one contribution's frame. It is made once, and filled again and again without allocating.
///
/// The payload's place is fixed before the header is known, because merging the ML modules' sums also fills the header.
/// So the header is written to end where the payload begins, and the frame begins with the header.
#[derive(Debug)]
pub struct ContributionFrame {
    buffer: Box<[u8]>,
    begin: usize,
    end: usize,
}

const PAYLOAD_BEGIN: usize = LENGTH_BYTES + MAX_HEADER_BYTES;

impl ContributionFrame {
    /// A buffer for contributions to a model of `parameters` parameters, whatever their codec.
    pub fn new(parameters: usize) -> ContributionFrame {
        ContributionFrame {
            buffer: vec![0; max_frame_bytes(parameters)].into_boxed_slice(),
            begin: PAYLOAD_BEGIN,
            end: PAYLOAD_BEGIN,
        }
    }

    /// Room for a payload of `bytes` bytes, to be overwritten.
    pub fn payload_mut(&mut self, bytes: usize) -> &mut [u8] {
        self.end = PAYLOAD_BEGIN + bytes;
        &mut self.buffer[PAYLOAD_BEGIN..self.end]
    }

    /// Writes the header.
    ///
    /// # Errors
    /// The header is longer than [`MAX_HEADER_BYTES`]: it lists more than [`crate::protocol::message::MAX_STEP_RUNS`]
    /// runs.
    pub fn seal(&mut self, contribution: &Contribution) -> Result<(), postcard::Error> {
        /// `FromVolunteer` with its first variant borrowed, so that the list of runs keeps its memory.
        #[derive(Serialize)]
        enum Borrowed<'a> {
            Contribution(&'a Contribution),
        }
        let mut header = [0; MAX_HEADER_BYTES];
        let length = postcard::to_slice(&Borrowed::Contribution(contribution), &mut header)?.len();
        let header_begin = PAYLOAD_BEGIN - length;
        self.begin = header_begin - LENGTH_BYTES;
        self.buffer[header_begin..PAYLOAD_BEGIN].copy_from_slice(&header[..length]);
        self.buffer[self.begin..header_begin].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }

    /// The frame as the last `seal` left it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }
}
